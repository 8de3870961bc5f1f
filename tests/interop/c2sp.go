// Command c2sp reads what we publish with golang.org/x/mod/sumdb, an implementation of these formats that is not ours
// and older than we are: the checkpoint (C2SP tlog-checkpoint in a signed-note), the tiles (tlog-tiles) and the proofs
// (tlog-proof@v1, and the body of tlog-witness's add-checkpoint). It shares no line with the rest of this repository.
//
//	c2sp VKEY export DIR               every tile is the one that tlog makes of the entries, the root is that of the
//	                                   checkpoint, and each entry is included, as proved through the tiles
//	c2sp VKEY proof FILE DIR           the proof's entry, as the export in DIR has it, is in the tree of its checkpoint
//	c2sp VKEY consistency FILE OLD     the proof's checkpoint extends the checkpoint in the file OLD
//
// It prints one line and ends with 0, or says what is wrong and ends with 1.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height = 8 // tlog-tiles fixes it, and leaves it out of the paths
	width  = 1 << height
)

// log is an export in a directory. As a tlog.TileReader, its files are not trusted.
type log struct{ dir string }

func (l log) path(t tlog.Tile) string {
	path := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", height))
	return filepath.Join(l.dir, "tile", strings.Replace(path, "data/", "entries/", 1))
}

func (l log) Height() int { return height }

func (l log) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, t := range tiles {
		data, err := os.ReadFile(l.path(t))
		if err != nil {
			return nil, err
		}
		if len(data) != t.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", l.path(t), len(data))
		}
		read = append(read, data)
	}
	return read, nil
}

func (l log) SaveTiles([]tlog.Tile, [][]byte) {}

// entries reads the bundles of a tree of size entries: each entry behind its length, a big-endian uint16.
func (l log) entries(size int64) ([][]byte, error) {
	var entries [][]byte
	for n := int64(0); n*width < size; n++ {
		t := tlog.Tile{H: height, L: -1, N: n, W: width}
		if left := size - n*width; left < width {
			t.W = int(left)
		}
		data, err := os.ReadFile(l.path(t))
		if err != nil {
			return nil, err
		}
		for i := 0; i < t.W; i++ {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return nil, fmt.Errorf("%s ends within an entry", l.path(t))
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			entries, data = append(entries, data[2:end]), data[end:]
		}
		if len(data) != 0 {
			return nil, fmt.Errorf("%s goes on after its last entry", l.path(t))
		}
	}
	return entries, nil
}

// openCheckpoint gives what a checkpoint says once the log of a verifier key has signed it.
func openCheckpoint(msg []byte, vkey string) (tree tlog.Tree, err error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tree, err
	}
	opened, err := note.Open(msg, note.VerifierList(verifier))
	if err != nil {
		return tree, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tree, errors.New("the checkpoint is not the log's name, a size and a root")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil || tree.N < 1 {
		return tree, fmt.Errorf("the checkpoint's size is %q", lines[1])
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

// open gives the checkpoint of an export, and the entries that it asks for. They are not compared yet.
func (l log) open(vkey string) (tree tlog.Tree, entries [][]byte, err error) {
	msg, err := os.ReadFile(filepath.Join(l.dir, "checkpoint"))
	if err != nil {
		return tree, nil, err
	}
	if tree, err = openCheckpoint(msg, vkey); err != nil {
		return tree, nil, err
	}
	entries, err = l.entries(tree.N)
	return tree, entries, err
}

func checkExport(vkey, dir string) error {
	published := log{dir}
	tree, entries, err := published.open(vkey)
	if err != nil {
		return err
	}
	var stored []tlog.Hash
	ours := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	for i, entry := range entries {
		hashes, err := tlog.StoredHashes(int64(i), entry, ours)
		if err != nil {
			return err
		}
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(tree.N, ours)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return fmt.Errorf("the entries have the root %v, and the checkpoint says %v", root, tree.Hash)
	}
	tiles := tlog.NewTiles(height, 0, tree.N)
	count := 0
	for i, t := range tiles {
		if i+1 < len(tiles) && tiles[i+1].L == t.L && tiles[i+1].N == t.N {
			continue // of a smaller tree on the way to this one
		}
		count++
		wanted, err := tlog.ReadTileData(t, ours)
		if err != nil {
			return err
		}
		data, err := published.ReadTiles([]tlog.Tile{t})
		if err != nil {
			return err
		}
		if !bytes.Equal(wanted, data[0]) {
			return fmt.Errorf("%s is not the tile of these entries", published.path(t))
		}
	}
	through := tlog.TileHashReader(tree, published)
	for i, entry := range entries {
		proof, err := tlog.ProveRecord(tree.N, int64(i), through)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, int64(i), tlog.RecordHash(entry)); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	fmt.Printf("%d entries, %d tiles, root %v\n", tree.N, count, root)
	return nil
}

// parseProof takes a proof apart: the lines before the hashes, the hashes, and the checkpoint after the empty line.
func parseProof(file string) (head []string, hashes []tlog.Hash, checkpoint []byte, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, nil, err
	}
	text, rest, found := strings.Cut(string(data), "\n\n")
	if !found {
		return nil, nil, nil, errors.New("the proof has no empty line")
	}
	for _, line := range strings.Split(text, "\n") {
		if len(hashes) == 0 && (strings.Contains(line, " ") || len(head) == 0) {
			head = append(head, line)
			continue
		}
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("the proof's line %q is no hash", line)
		}
		hashes = append(hashes, hash)
	}
	return head, hashes, []byte(rest), nil
}

func checkProof(vkey, file, dir string) error {
	head, hashes, checkpoint, err := parseProof(file)
	if err != nil {
		return err
	}
	tree, err := openCheckpoint(checkpoint, vkey)
	if err != nil {
		return err
	}
	if head[0] != "c2sp.org/tlog-proof@v1" || len(head) < 2 {
		return errors.New("not a tlog-proof@v1")
	}
	spelled := strings.TrimPrefix(head[len(head)-1], "index ")
	index, err := strconv.ParseInt(spelled, 10, 64)
	if err != nil || index < 0 || index >= tree.N || "index "+strconv.FormatInt(index, 10) != head[len(head)-1] {
		return fmt.Errorf("the proof's index is %q", spelled)
	}
	_, entries, err := log{dir}.open(vkey)
	if err != nil {
		return err
	}
	if index >= int64(len(entries)) {
		return fmt.Errorf("the export ends before entry %d", index)
	}
	extra := "extra " + base64.StdEncoding.EncodeToString(entries[index])
	if len(head) > 3 || len(head) == 3 && head[1] != extra {
		return errors.New("the proof's extra line is not the entry")
	}
	if err := tlog.CheckRecord(hashes, tree.N, tree.Hash, index, tlog.RecordHash(entries[index])); err != nil {
		return err
	}
	fmt.Printf("entry %d of %d, by %d hashes\n", index, tree.N, len(hashes))
	return nil
}

func checkConsistency(vkey, file, old string) error {
	head, hashes, checkpoint, err := parseProof(file)
	if err != nil {
		return err
	}
	newer, err := openCheckpoint(checkpoint, vkey)
	if err != nil {
		return err
	}
	kept, err := os.ReadFile(old)
	if err != nil {
		return err
	}
	older, err := openCheckpoint(kept, vkey)
	if err != nil {
		return err
	}
	if len(head) != 1 || head[0] != fmt.Sprintf("old %d", older.N) {
		return fmt.Errorf("the proof begins with %q", head)
	}
	if err := tlog.CheckTree(hashes, newer.N, newer.Hash, older.N, older.Hash); err != nil {
		return err
	}
	fmt.Printf("%d entries extend %d, by %d hashes\n", newer.N, older.N, len(hashes))
	return nil
}

func main() {
	err := errors.New("usage: c2sp VKEY export DIR | proof FILE DIR | consistency FILE OLD")
	switch args := os.Args[1:]; {
	case len(args) == 3 && args[1] == "export":
		err = checkExport(args[0], args[2])
	case len(args) == 4 && args[1] == "proof":
		err = checkProof(args[0], args[2], args[3])
	case len(args) == 4 && args[1] == "consistency":
		err = checkConsistency(args[0], args[2], args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "c2sp:", err)
		os.Exit(1)
	}
}
