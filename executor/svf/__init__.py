"""The station's event feed: a fold, its lines, its daily files."""
