// Package xorriso puts files into a CD image that boots, by running xorriso.
//
// To write a small image is a page of code (internal/iso9660). To change one
// that boots is not: its boot catalogue, its boot information table, the
// partition tables that make it boot from a USB stick, and the hidden images
// of both firmwares must all be kept. xorriso knows them, and nothing in Go
// does.
package xorriso

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ErrMissing is returned when xorriso is not installed.
var ErrMissing = errors.New("xorriso is not installed")

// Add copies the image at from to the file at to, which exists and is empty,
// with files added, or replaced, by their path in the image. The copy boots as
// the original does and has its label. Everybody who mounts it can read the
// files. What is at to is of no use after an error.
//
// The files go through a directory beside to for its owner alone, which is
// gone when Add returns.
func Add(ctx context.Context, from, to string, files map[string][]byte) error {
	for name := range files {
		if !inImage(name) {
			return fmt.Errorf("%q is not a path in an image, such as config.yaml", name)
		}
	}
	program, err := exec.LookPath("xorriso")
	if err != nil {
		return ErrMissing
	}
	if from, err = filepath.Abs(from); err != nil {
		return err
	}
	if to, err = filepath.Abs(to); err != nil {
		return err
	}
	if err := isImage(from); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(to), ".xorriso-*") // mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// "stdio:" makes a path a file, whatever it begins with.
	args := []string{"-no_rc", "-abort_on", "FAILURE", "-indev", "stdio:" + from, "-outdev", "stdio:" + to, "-boot_image", "any", "replay"}
	for i, name := range slices.Sorted(maps.Keys(files)) {
		aside := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(aside, files[name], 0o600); err != nil {
			return err
		}
		in := "/" + strings.TrimPrefix(name, "/")
		args = append(args, "-map", aside, in, "-chmod", "0444", in, "--", "-chown", "0", in, "--", "-chgrp", "0", in, "--")
	}
	return run(ctx, program, append(args, "-commit"))
}

// pathRule is what no argument of xorriso takes for something else.
var pathRule = regexp.MustCompile(`^/?[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`)

func inImage(name string) bool { return pathRule.MatchString(name) && path.Clean(name) == name }

// isImage says in a few words what xorriso would say in many.
func isImage(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const at, magic = 16*2048 + 1, "CD001" // ECMA-119, 8.4.2
	var b [len(magic)]byte
	if _, err := f.ReadAt(b[:], at); err != nil || string(b[:]) != magic {
		return fmt.Errorf("%s: not a CD image (ISO 9660)", path)
	}
	return nil
}

// trouble is a line in which xorriso says what went wrong.
var trouble = regexp.MustCompile(`(?m)^(?:xorriso|libisofs|libburn) : (?:SORRY|FAILURE|FATAL|ABORT) : (.*)$`)

func run(ctx context.Context, program string, args []string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var why []string
	for _, m := range trouble.FindAllStringSubmatch(said.String(), 3) {
		why = append(why, m[1])
	}
	if why == nil {
		why = []string{err.Error()}
	}
	return fmt.Errorf("xorriso: %s", strings.Join(why, "; "))
}
