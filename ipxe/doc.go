// Package ipxe knows how a machine gets from its first loader to a running
// kernel: which loader an architecture needs, the iPXE script that renders a
// decision, and the HTTP routes a booting machine uses.
//
// # Routes
//
//	GET  /boot/script.ipxe?mac=&uuid=&serial=&fw=   the script of the machine that asks
//	GET  /autoexec.ipxe, /boot/autoexec.ipxe, /boot/<dir>/autoexec.ipxe
//	                                            a script that asks for it (leased addresses only)
//	GET  /boot/<loader>                         a loader of the tables in loaders.go
//	GET  /grub/grub.cfg, /grub/grub.cfg-<who>   the configuration of GRUB (see grub.go for the other places)
//	GET  /grub/next.cfg, /grub/failed-<step>.cfg
//	                                            what that configuration asks for and reports
//	GET  /<node>/script.ipxe                    the script of a node, by name
//	GET  /<node>/{kernel,initrd.img.xz,rootfs}  the boot directory of a node
//	GET  /<node>/<release>/{kernel,initrd.img.xz,rootfs}  the same of the release that a boot began with
//	GET  /<node>/<release>/images/install.img   its root file system, where Anaconda looks for it
//	GET  /ephemeral/data/<dir>/<id>/<file>      the artifact tree
//	POST /checkin/booted                        the booted system reports back (leased addresses only)
//	POST /api/v1/nodes/register, GET /api/v1/ws agents phone home (internal/phonehome)
//	GET  /report?step=&err=                     a script reports a failure (leased addresses only)
//	GET  /t/<token>/<document>                  a document of a payload (the bearer of the ticket only)
//	GET  /payload/<document>                    the same, without a ticket (the holder of the lease only)
//	GET  /meta-data?key=, /user-data, POST /phone-home/<id>
//	                                            those of metal-basecamp (the holder of the lease only)
//	GET  /get/... of Host metaldata, /latest/... of Host 169.254.169.254
//	                                            metadata for a first boot (the holder of the lease only)
//	GET  /media/<token>/<node>-<kind>.iso        a CD image for the virtual drive of a BMC, while its token is good
//	GET, POST /C/<claim>                         the page on which a machine is claimed for a site
//	GET  /validate.sh                            the program by which a node reports what it is
//	GET  /healthz, /metrics
//
// Each GET may be a HEAD. Nothing else below the root is served: no listing,
// no other directory, and no file a symbolic link names outside the root.
//
// # Promises
//
// No answer is a redirect, because UEFI HTTP Boot does not follow one; "//" is
// read as "/". A path with "..", an encoded dot or slash, a backslash or a
// control character is refused with 400. An error is one line of text, except
// that a request for a script gets status 200 and a script that shows the
// error, waits and asks again: iPXE runs nothing else, and gives up on the
// rest. A server that is not ready or is full says 503 with Retry-After, which
// iPXE obeys by itself.
//
// Files carry an exact Content-Length, a strong ETag and Last-Modified, and
// may be fetched in ranges (RFC 9110, sections 8.8.3 and 14), one range at a
// time; a request for several gets the whole file. A reader slower than 1 kB/s
// over a minute is cut off. Each script, transfer, check-in and report is one
// event; a HEAD is none.
//
// One boot gets one release: a script names the files of the release that it
// was decided to boot, down to metal.server, and these names stay good when the
// node's links are switched. The root file system has the further names
// squashfs.img and *.squashfs, for initrds that ask for those, and rootfs.iso and
// rootfs.img for those that go by the ending.
//
// # Scripts
//
// iPXE has no quoting: it splits a line at blanks, then gives meaning to the
// words "||", "&&" and ";", to a leading "#" and to "${". So each value that
// goes into a command must pass an allow-list, and a value that does not is an
// error that names it. Texts that are only shown on the screen lose the
// characters that are not harmless. Scripts use only commands that the iPXE of
// 2019 in Debian 12 has. No script boots a disk but that of deploy.Local and, once
// the server has been gone for Server.Retries rounds, that of deploy.Boot.
package ipxe
