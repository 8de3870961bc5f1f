"""What is allowed: the kinds of statement, the law, the registrar, the audit."""
