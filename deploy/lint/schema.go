package lint

import (
	"maps"
	"slices"

	"bootd/internal/yamltree"
)

// A shape is what a value has to look like. The zero shape is anything.
type shape struct {
	kind yamltree.Kind    // zero: anything
	item *shape           // of the items of a list, and of the values under keys that are free
	keys map[string]shape // of keys and values; nil: the keys are free
	open bool             // further keys are somebody else's, and not wrong
}

var (
	anything shape
	text     = shape{kind: yamltree.String}
	truth    = shape{kind: yamltree.Bool}
	number   = shape{kind: yamltree.Int}
	texts    = list(text)
)

func list(item shape) shape            { return shape{kind: yamltree.List, item: &item} }
func free(item shape) shape            { return shape{kind: yamltree.Map, item: &item} }
func object(k map[string]shape) shape  { return shape{kind: yamltree.Map, keys: k} }
func partial(k map[string]shape) shape { return shape{kind: yamltree.Map, keys: k, open: true} }

// with returns o with further keys.
func (o shape) with(k map[string]shape) shape {
	all := maps.Clone(o.keys)
	maps.Copy(all, k)
	return object(all)
}

func (o shape) names() []string { return slices.Sorted(maps.Keys(o.keys)) }

// The schema, as palette.md section 2 has it of the documentation of Palette
// Edge, and sdk/schema of Kairos.
var (
	user = object(map[string]shape{
		"name": text, "passwd": text, "groups": texts, "ssh_authorized_keys": texts, "lock_passwd": truth, "passwordExpiry": anything,
		"gecos": text, "homedir": text, "no_create_home": truth, "primary_group": text, "no_user_group": truth, "system": truth,
		"no_log_init": truth, "shell": text, "uid": anything, "sudo": anything, "plain_text_passwd": text, "hashed_passwd": text,
	})
	nic = object(map[string]shape{"type": text, "ipAddress": text, "mask": text, "gateway": text, "nameserver": text})
	// flat are the keys of the old form of network:, without interfaces:.
	network = nic.with(map[string]shape{
		"httpProxy": text, "httpsProxy": text, "noProxy": text, "interfaces": free(nic),
	})
	registry = object(map[string]shape{
		"domain": text, "username": text, "password": text, "encodedPassword": text, "insecure": truth,
		"repositoryName": text, "certificates": texts,
	})
	site = object(map[string]shape{
		"paletteEndpoint": text, "edgeHostToken": text, "projectName": text, "projectUid": text, "name": text, "hostName": text,
		"prefix": text, "deviceUIDPaths": list(object(map[string]shape{"name": text, "regex": text})), "registrationURL": text,
		"disableAutoRegister": truth, "insecureSkipVerify": truth, "caCerts": texts, "clusterId": text, "clusterName": text,
		"tags": free(anything), "tagsFromFile": object(map[string]shape{"fileName": text, "delimiter": text, "separator": text}),
		"tagsFromScript": object(map[string]shape{"scriptName": text, "timeout": number}), "ntpServers": anything,
		"remoteShell": object(map[string]shape{"disable": truth}), "users": list(user), "network": network,
	})
	stylus = object(map[string]shape{
		"debug": truth, "trace": truth, "disablePasswordUpdate": truth, "disableTui": truth, "includeTui": truth, "enableMultiNode": truth,
		"featureGate": text, "managementMode": text, "installationMode": text, "path": text, "imageOverride": text,
		"vip": object(map[string]shape{"skip": truth}), "localUI": anything, "imageRedirectWebhook": object(map[string]shape{"enable": truth, "port": number}),
		"registryCredentials": registry, "site": site,
		"externalRegistries": object(map[string]shape{"registries": list(registry), "registryMappingRules": free(text)}),
	})
	partition   = object(map[string]shape{"size": number, "fs": text, "name": text, "label": text})
	grubOptions = object(map[string]shape{
		"extra_cmdline": text, "extra_active_cmdline": text, "extra_passive_cmdline": text, "extra_recovery_cmdline": text,
		"default_menu_entry": text, "default_fallback": text, "next_entry": text, "saved_entry": text,
	})
	image   = object(map[string]shape{"size": number, "source": text, "uri": text})
	bundles = list(object(map[string]shape{"targets": texts, "repository": text, "rootfs_path": text, "db_path": text, "local_file": truth}))
	install = object(map[string]shape{
		"auto": truth, "device": text, "reboot": truth, "poweroff": truth, "image": text, "source": text, "no-format": truth, "no_format": truth,
		"force": truth, "bind_mounts": texts, "ephemeral_mounts": texts, "extra-dirs-rootfs": texts, "encrypted_partitions": texts,
		"env": anything, "bundles": bundles, "grub-entry-name": text, "ssh_hardening": truth, "nousers": truth, "system": image, "passive": image,
		"recovery-system": image, "partitions": object(map[string]shape{"oem": partition, "recovery": partition, "state": partition, "persistent": partition, "efi": partition}),
		"extra-partitions": list(partition), "grub_options": grubOptions, "eject-cd": truth, "eject": truth, "oem_files": anything, "selinux": anything,
		"skip_copy_kcrypt_plugin": truth, "bind-mounts": texts, "iso": text, "firmware": text, "part-table": text,
	})
	file = object(map[string]shape{
		"path": text, "permissions": anything, "owner": anything, "group": anything, "content": text, "encoding": text,
		"ownerstring": text, "owner_string": text,
	})
	step = object(map[string]shape{
		"name": text, "commands": texts, "files": list(file), "downloads": list(anything), "directories": list(anything), "if": text,
		"ensure_entities": list(anything), "delete_entities": list(anything), "hostname": text, "sysctl": free(anything),
		"dns": object(map[string]shape{"nameservers": texts, "search": texts, "options": texts, "path": text}), "authorized_keys": free(texts),
		"node": text, "users": free(user), "modules": texts, "systemctl": partial(map[string]shape{"enable": texts, "disable": texts, "start": texts, "mask": texts}),
		"environment": free(anything), "environment_file": text, "packages": anything, "unpack_images": list(anything), "after": list(anything),
		"datasource": anything, "layout": anything, "systemd_firstboot": free(text), "timesyncd": free(text), "git": anything,
		"only_os": text, "only_os_version": text, "only_arch": text, "only_service_manager": text, "only_os_family": text,
		"if_arch": text, "if_os": text, "if_os_version": text, "if_service_manager": text, "if_files": anything,
	})
	// document is the whole. Cloud-init's and Kairos' further keys are many,
	// and no list of them is complete.
	document = partial(map[string]shape{
		"stylus": stylus, "install": install, "stages": anything, "users": list(user), "hostname": text, "debug": truth, "strict": truth, "options": anything,
		"config_url": text, "bundles": bundles, "env": anything, "grub_options": grubOptions, "fail_on_bundles_errors": truth,
		"kcrypt": anything, "upgrade": anything, "reset": anything, "p2p": anything, "k3s": anything, "k0s": anything, "k3s-agent": anything,
		"cloud-init-paths": texts, "eject-cd": truth, "cosign": truth, "cosign-key": text, "verify": truth, "arch": text, "extensions": anything,
		"uki-max-entries": number, "phonehome": anything, "cluster": anything, "name": text, "provider": anything, "ssh_authorized_keys": texts,
		"write_files": anything, "runcmd": anything, "bootcmd": anything, "growpart": anything, "packages": anything, "timezone": text,
		"ntp": anything, "chpasswd": anything, "disable_root": truth, "ssh_pwauth": anything, "apt": anything, "mounts": anything, "fqdn": text,
	})
)

// stages are those that anybody runs, as the agent, immucore and the units of
// cos-setup do; each of the boot has a .before and an .after.
var stages = func() (all []string) {
	for _, s := range []string{"rootfs", "initramfs", "boot", "fs", "network", "reconcile"} {
		all = append(all, s, s+".before", s+".after")
	}
	for _, of := range []string{"install", "upgrade", "reset"} {
		all = append(all, "before-"+of, "after-"+of, "after-"+of+"-chroot")
	}
	for _, of := range []string{"kairos-install", "kairos-uki-install", "kairos-uki-upgrade", "kairos-uki-reset"} {
		all = append(all, of+".pre", of+".pre.before", of+".pre.after", of+".after", of+".after.before", of+".after.after")
	}
	return append(all, "after-upgrade-chroot", "after-reset-chroot")
}()

// stageMeant are the stages that people mean by names that are none.
var stageMeant = map[string]string{
	"install": "before-install", "reset": "before-reset", "upgrade": "before-upgrade",
	"pre-install": "before-install", "post-install": "after-install", "pre-reset": "before-reset", "post-reset": "after-reset",
}
