// Command edge is the installer and the installed system of the lab's edge
// machines. It follows what Kairos promises its users, in small: where it gets
// its configuration from, which stages run when, and what it does only once.
//
//	edge install   as init of the installer: config_url to a system on disk
//	edge boot      as init of that system: site data, stages, check-in
//
// It runs in virtual machines only. Whatever it does it says on the console,
// and whatever goes wrong is a line BOOTD-LAB-FAILED; then it powers off.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Printf("BOOTD-LAB-FAILED step=edge %v\n", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run(what string) error {
	switch what {
	case "install":
		return install()
	case "boot":
		return boot()
	}
	return fmt.Errorf("%q is neither install nor boot", what)
}

// A config is what the lab's machines understand of a document.
type config struct {
	Install struct {
		Auto     bool   `yaml:"auto"`
		Device   string `yaml:"device"`
		PowerOff bool   `yaml:"poweroff"`
	} `yaml:"install"`
	Stages map[string][]stage `yaml:"stages"`
}

type stage struct {
	Name     string   `yaml:"name"`
	Hostname string   `yaml:"hostname"`
	Commands []string `yaml:"commands"`
}

// headers are what makes a document one, in one of its first ten lines
// (kairos: sdk/collector, HasValidHeader).
var headers = []string{"#cloud-config", "#kairos-config", "#node-config"}

func parse(text []byte) (c config, err error) {
	lines := strings.SplitN(string(text), "\n", 11)
	if !slices.ContainsFunc(lines[:min(len(lines), 10)], func(l string) bool { return slices.Contains(headers, strings.TrimRight(l, " \t\r")) }) {
		return c, errors.New("document has no header")
	}
	return c, yaml.Unmarshal(text, &c)
}

// stages runs the stages of a name, of all documents in order.
func stages(name string, list ...config) error {
	for _, c := range list {
		for _, s := range c.Stages[name] {
			if s.Hostname != "" {
				if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
					return err
				}
			}
			for _, command := range s.Commands {
				out, err := exec.Command("/bin/sh", "-c", command).CombinedOutput()
				fmt.Printf("BOOTD-LAB-STAGE %s %q: %v\n", name, strings.TrimSpace(string(out)), err)
			}
		}
	}
	return nil
}

// The system on disk.
const (
	image     = "/os.img"
	mount     = "/oem-disk"
	installed = "oem/90_custom.yaml"
	siteData  = "oem/95_userdata/userdata.yaml" // there: site data was read once, and never is again
)

func install() error {
	url, err := argument("config_url")
	if err != nil {
		return err
	}
	text, err := fetch(url, 5*time.Second)
	if err != nil {
		return err
	}
	fmt.Printf("BOOTD-LAB-CONFIG %d bytes\n", len(text))
	c, err := parse(text)
	switch {
	case err != nil:
		return err
	case !c.Install.Auto:
		return errors.New("install.auto is not true: a person would be asked")
	}
	if err := errors.Join(stages("kairos-install.pre", c), stages("before-install", c)); err != nil {
		return err
	}
	if err := writeImage(c.Install.Device); err != nil {
		return err
	}
	err = withSystem(partition(c.Install.Device), func(dir string) error {
		return os.WriteFile(filepath.Join(dir, installed), text, 0o600)
	})
	if err != nil {
		return err
	}
	fmt.Printf("BOOTD-LAB-INSTALLED %s\n", c.Install.Device)
	if err := stages("after-install", c); err != nil {
		return err
	}
	if !c.Install.PowerOff {
		unix.Sync()
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return nil
}

// writeImage copies the system to a disk, which must be one.
func writeImage(device string) error {
	info, err := os.Stat(device)
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeDevice == 0 {
		return fmt.Errorf("install.device: %q is not a device", device)
	}
	in, err := os.Open(image)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return unix.IoctlSetInt(int(out.Fd()), unix.BLKRRPART, 0)
}

func partition(device string) string {
	if real, err := filepath.EvalSymlinks(device); err == nil {
		device = real
	}
	return device + "1"
}

// withSystem calls do with the system on a partition mounted.
func withSystem(device string, do func(dir string) error) error {
	if err := os.MkdirAll(mount, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, mount, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	err := do(mount)
	return errors.Join(err, unix.Unmount(mount, 0))
}

func boot() error {
	device, err := argument("lab.system")
	if err != nil {
		return err
	}
	var list []config
	source := "none: read before"
	err = withSystem(device, func(dir string) error {
		if _, err := os.Stat(filepath.Join(dir, siteData)); errors.Is(err, os.ErrNotExist) {
			text, from := pull()
			source = from
			if text != nil {
				err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, siteData)), 0o700), os.WriteFile(filepath.Join(dir, siteData), text, 0o600))
				if err != nil {
					return err
				}
			}
		}
		for _, file := range []string{installed, siteData} {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			c, parsing := parse(text)
			if err := errors.Join(err, parsing); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			list = append(list, c)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"initramfs", "boot", "network"} {
		if err := stages(name, list...); err != nil {
			return err
		}
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	addrs, err := exec.Command("/bin/sh", "-c", "ip -4 -o addr show dev eth0 | awk '{print $4}' | tr '\\n' ' '").Output()
	if err != nil {
		return err
	}
	fmt.Printf("BOOTD-LAB-SYSTEM hostname=%s site-data=%s addresses=%s\n", host, source, strings.TrimSpace(string(addrs)))
	return stages("boot.after", list...)
}

// pull asks the data sources of yip for site data: first the CD, then those on
// the network.
func pull() (text []byte, source string) {
	if text, err := readCD(); err == nil {
		return text, "cdrom"
	}
	for name, urls := range map[string][2]string{
		"openstack": {"http://169.254.169.254/latest/meta-data/hostname", "http://169.254.169.254/latest/user-data"},
	} {
		if _, err := fetch(urls[0], 2*time.Second); err != nil {
			fmt.Printf("BOOTD-LAB-PROBE %s: %v\n", name, err)
			continue
		}
		if text, err := fetch(urls[1], 2*time.Second); err == nil && len(text) > 0 {
			return text, name
		}
	}
	return nil, "none: not found"
}

func readCD() ([]byte, error) {
	const dir = "/cdrom"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("/dev/sr0", dir, "iso9660", unix.MS_RDONLY, ""); err != nil {
		return nil, err
	}
	defer unix.Unmount(dir, 0)
	return os.ReadFile(filepath.Join(dir, "user-data"))
}

// fetch asks three times, as the agent does.
func fetch(url string, timeout time.Duration) (body []byte, err error) {
	client := http.Client{Timeout: timeout}
	for range 3 {
		if body, err = get(&client, url); err == nil {
			return body, nil
		}
	}
	return nil, err
}

func get(client *http.Client, url string) ([]byte, error) {
	res, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(res.Status)
	}
	return io.ReadAll(res.Body)
}

// argument returns a value of the kernel command line.
func argument(name string) (string, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", err
	}
	for word := range strings.FieldsSeq(string(line)) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("no %s= on the kernel command line", name)
}
