package payload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"bootd/internal/node"
)

// Files returns the files and directories that the documents of a payload are
// made of, as far as they are there.
func Files(p node.Payload) (list []string) {
	if p.Dir != "" {
		list = append(list, p.Dir)
		names, _ := filepath.Glob(filepath.Join(p.Dir, "*"+partial))
		list = append(list, names...)
		for _, name := range sources(p) {
			list = append(list, filepath.Join(p.Dir, name))
		}
	}
	if p.Settings != "" {
		list = append(list, p.Settings)
	}
	for _, file := range p.Secrets {
		list = append(list, file)
	}
	slices.Sort(list)
	return slices.DeleteFunc(list, func(name string) bool { _, err := os.Stat(name); return err != nil })
}

// Unreadable returns the *Fault of a file or directory that this process cannot
// read; nil: it can. It reads no content.
func Unreadable(name string) error {
	f, err := os.OpenFile(name, syscall.O_DIRECTORY, 0)
	if errors.Is(err, syscall.ENOTDIR) {
		f, err = openText(name)
	}
	if err != nil {
		return unreadable(name, "", err)
	}
	f.Close()
	return nil
}

// openText opens a file as it is opened to be read: as one of its directory.
func openText(name string) (*os.File, error) {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(filepath.Base(name), os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
}

// unreadable is the fault of a file that could not be read. What it says
// quotes nothing that is in the file.
func unreadable(name, what string, err error) *Fault {
	problem := reason(err)
	if errors.Is(err, fs.ErrPermission) {
		problem = denied(name)
	}
	return &Fault{File: name, Problem: what + problem, Unread: true}
}

// denied says which part of a path keeps this process from reading it.
func denied(name string) string {
	part := barrier(name)
	info, err := os.Stat(part)
	if err != nil {
		return "permission denied"
	}
	by := ""
	if part != name {
		by = " by " + part
	}
	return fmt.Sprintf("permission denied%s: %s, is not for %s", by, ownership(info), process())
}

// barrier returns the first directory on the way to a file that cannot be
// searched, or read where it is the one that holds the file; else the file.
func barrier(name string) string {
	for at, rest := "/", strings.Trim(name, "/"); rest != ""; {
		if _, err := os.Stat(filepath.Join(at, rest)); err == nil {
			break
		}
		next, more, _ := strings.Cut(rest, "/")
		if _, err := os.Stat(filepath.Join(at, next)); errors.Is(err, fs.ErrPermission) {
			return at
		}
		at, rest = filepath.Join(at, next), more
	}
	if info, err := os.Stat(name); err == nil && !info.IsDir() && Unreadable(filepath.Dir(name)) != nil {
		return filepath.Dir(name)
	}
	return name
}

// ownership is who may use a file, such as "mode 0640, owner root:adm".
func ownership(info fs.FileInfo) string {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Sprintf("mode %04o", info.Mode().Perm())
	}
	owner, group := strconv.Itoa(int(s.Uid)), strconv.Itoa(int(s.Gid))
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return fmt.Sprintf("mode %04o, owner %s:%s", info.Mode().Perm(), owner, group)
}

// process is whom files have to be readable for, by number: a user that exists
// only while the daemon runs has no name to look up.
func process() string {
	groups, _ := os.Getgroups() // none: its own one
	if !slices.Contains(groups, os.Getegid()) {
		groups = append(groups, os.Getegid())
	}
	slices.Sort(groups)
	return fmt.Sprintf("user %d of groups %s", os.Geteuid(), strings.Trim(fmt.Sprint(groups), "[]"))
}

// Private returns who may use a file where that is not everybody: its own mode
// says so, or that of its directory; empty: everybody may. It is for when the
// daemon cannot be asked.
func Private(name string) string {
	for _, at := range []string{filepath.Dir(name), name} {
		info, err := os.Stat(at)
		if err != nil {
			continue
		}
		need := fs.FileMode(0o004)
		if info.IsDir() {
			need = 0o005
		}
		if info.Mode().Perm()&need != need {
			return at + " has " + ownership(info)
		}
	}
	return ""
}
