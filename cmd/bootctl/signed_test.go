package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
)

// A role that wants signatures is never linked to a release that has none, or
// that was altered after it was signed.
func TestSignedRole(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	put("signers.pub", "untrusted comment: x\n"+public.String()+"\n")
	const nodes = "nodes: [{name: ncn-m001, role: kubernetes, macs: ['52:54:00:00:00:01']}]\n"
	put("plain.yaml", nodes)
	put("signed.yaml", fmt.Sprintf("signers: %s/signers.pub\nroles: [{name: kubernetes, require-signature: true}]\n%s", dir, nodes))
	put("root/x", "")
	bootctl := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if got := run(t.Context(), append(args, "--root", dir+"/root"), &out, &out); got != want {
			t.Errorf("%q: got status %d, want %d:\n%s", args, got, want, &out)
		}
		return out.String()
	}
	for _, id := range []string{"0.0.8", "0.0.9"} {
		put("src/"+id+"/5.3.18-24.37-default-"+id+".kernel", "MZ")
		put("src/"+id+"/initrd.img-"+id+".xz", "070701")
		put("src/"+id+"/kubernetes-"+id+".squashfs", "hsqs")
		bootctl(0, "release", "import", "kubernetes", dir+"/src/"+id, "--config", dir+"/plain.yaml")
	}
	old := "root/ephemeral/data/k8s/0.0.8/"
	manifest, err := os.ReadFile(filepath.Join(dir, old, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	put(old+"manifest.json.minisig", string(minisign.Sign(private, manifest)))

	out := bootctl(0, "set-links", "--config", dir+"/signed.yaml")
	if !strings.Contains(out, "created ncn-m001: 0.0.8\n") || !strings.Contains(out, "release 0.0.9 is not used: ephemeral/data/k8s/0.0.9 is not signed: manifest.json.minisig: no such file or directory") {
		t.Errorf("the newest is unsigned: got\n%s\nwant 0.0.8, and why not 0.0.9", out)
	}
	put(old+"kubernetes-0.0.8.squashfs", "hsqX")
	put(old+"initrd.img-0.0.8.xz", "070702")
	put(old+"kubernetes-0.0.8.squashfs", "hsqs")
	out = bootctl(1, "set-links", "--config", dir+"/signed.yaml")
	if !strings.Contains(out, "release 0.0.8: ephemeral/data/k8s/0.0.8: initrd.img-0.0.8.xz was altered: SHA-256 is ") {
		t.Errorf("altered: got\n%s\nwant that the initrd was altered", out)
	}
	// The root as we leave it is what links says it is.
	bootctl(0, "links", "check", "--config", dir+"/signed.yaml")
}
