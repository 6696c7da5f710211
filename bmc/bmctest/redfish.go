package bmctest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Quirks are what real services do differently. The zero Quirks is a service
// by the book.
type Quirks struct {
	NoSessions     bool // only basic authentication
	NoPowerCycle   bool // restarts with ForceRestart only
	NoBootMode     bool // refuses BootSourceOverrideMode, as not writable
	OldMedia       bool // virtual media are the manager's, and take no parameter but Image
	Tasks          bool // answers actions with a task that ends when asked a second time
	TaskFails      bool // with Tasks: it ends as Exception
	Changing       bool // the interface is changed by somebody else before the first PATCH
	NoMedia        bool // has no virtual media
	NoDHCP         bool // its interfaces cannot be changed
	TwoNICs        bool // has a second interface, which comes first, with another address
	PowerStaysAway bool // takes commands and does nothing
	// Fetch reads the image that is inserted, as a drive would: its size by
	// HEAD, then pieces by Range. What cannot be read so is not inserted. Nil:
	// an image is not looked at.
	Fetch *http.Client
}

// A Redfish is a BMC that follows the schemas of the DMTF (DSP0266 1.20 and the
// JSON schemas of 2023) as far as bmc uses them: sessions and basic
// authentication, ETag, tasks, virtual media.
type Redfish struct {
	*httptest.Server
	User, Password string
	Quirks         Quirks

	mu       sync.Mutex
	sessions map[string]string // token by session id
	power    string
	boot     map[string]any // as last set
	dhcp     bool
	image    string
	media    []byte         // of image, with Quirks.Fetch
	tasks    map[string]int // how often each was asked
	etag     int
	log      []string      // "METHOD path body" of what changed something
	logged   chan struct{} // closed, and made anew, when log grows
	logins   int
}

// NewRedfish starts a service on loopback, with HTTPS and a certificate that
// nobody trusts. Its machine is off.
func NewRedfish(q Quirks) *Redfish { return StartRedfish(nil, q) }

// StartRedfish is NewRedfish on a listener of the caller's; nil: on loopback.
func StartRedfish(l net.Listener, q Quirks) *Redfish {
	r := &Redfish{User: "root", Password: "initial0", Quirks: q, power: "Off", sessions: map[string]string{}, tasks: map[string]int{}, etag: 1, logged: make(chan struct{})}
	r.Server = httptest.NewUnstartedServer(r)
	if l != nil {
		r.Listener.Close()
		r.Listener = l
	}
	r.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust the certificate
	r.StartTLS()
	return r
}

// Log returns the requests that changed something, sessions left out.
func (r *Redfish) Log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Await waits until a request that changed something has part in it.
func (r *Redfish) Await(ctx context.Context, part string) error {
	for {
		r.mu.Lock()
		log, more := strings.Join(r.log, "\n"), r.logged
		r.mu.Unlock()
		if strings.Contains(log, part) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no request with %q in %q", part, log)
		case <-more:
		}
	}
}

// Sessions returns how many sessions are open, and how many logins there were,
// refused ones included.
func (r *Redfish) Sessions() (open, logins int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions), r.logins
}

// Image returns the image in the virtual drive.
func (r *Redfish) Image() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.image
}

// Media returns what was read of the image that was inserted last.
func (r *Redfish) Media() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.media)
}

// fetch reads an image as BMCs do, and is as choosy: the path ends in .iso and
// has no colon, and the server knows HEAD, ranges and entity tags.
func fetch(c *http.Client, image string) ([]byte, error) {
	u, err := url.Parse(image)
	if err != nil || !strings.HasSuffix(u.Path, ".iso") || strings.Contains(u.Path, ":") {
		return nil, errors.New("the image is not the path of an .iso file")
	}
	head, err := c.Head(image)
	if err != nil {
		return nil, err
	}
	head.Body.Close()
	if head.StatusCode != http.StatusOK || head.ContentLength <= 0 || head.Header.Get("Accept-Ranges") != "bytes" || head.Header.Get("ETag") == "" {
		return nil, fmt.Errorf("HEAD: %s, %d bytes, Accept-Ranges %q, ETag %q", head.Status, head.ContentLength, head.Header.Get("Accept-Ranges"), head.Header.Get("ETag"))
	}
	const piece = 64 << 10
	media := make([]byte, 0, head.ContentLength)
	for at := int64(0); at < head.ContentLength; at += piece {
		part, err := fetchRange(c, image, at, min(at+piece, head.ContentLength)-1, head)
		if err != nil {
			return nil, err
		}
		media = append(media, part...)
	}
	return media, nil
}

func fetchRange(c *http.Client, image string, from, to int64, head *http.Response) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, image, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to))
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	part, err := io.ReadAll(io.LimitReader(res.Body, to-from+2))
	want := fmt.Sprintf("bytes %d-%d/%d", from, to, head.ContentLength)
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode != http.StatusPartialContent, res.Header.Get("Content-Range") != want, int64(len(part)) != to-from+1, res.Header.Get("ETag") != head.Header.Get("ETag"):
		return nil, fmt.Errorf("range: %s, %q, %d bytes, ETag %q", res.Status, res.Header.Get("Content-Range"), len(part), res.Header.Get("ETag"))
	}
	return part, nil
}

type object = map[string]any

func link(path string) object { return object{"@odata.id": path} }

func collection(paths ...string) object {
	members := []object{}
	for _, p := range paths {
		members = append(members, link(p))
	}
	return object{"Members": members, "Members@odata.count": len(members)}
}

const (
	rootPath    = "/redfish/v1"
	sessionPath = rootPath + "/SessionService/Sessions"
	systemPath  = rootPath + "/Systems/1"
	managerPath = rootPath + "/Managers/1"
	nicsPath    = managerPath + "/EthernetInterfaces"
	mediaName   = "/VirtualMedia/CD1"
	taskPath    = rootPath + "/TaskService/TaskMonitors/"
)

func (r *Redfish) mediaOwner() string {
	if r.Quirks.OldMedia {
		return managerPath
	}
	return systemPath
}

// ServeHTTP implements http.Handler.
func (r *Redfish) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	path := strings.TrimSuffix(req.URL.Path, "/")
	body := object{}
	if req.Body != nil {
		json.NewDecoder(req.Body).Decode(&body)
	}
	switch {
	case path == rootPath && req.Method == http.MethodGet: // open to all (DSP0266, 13.3.3)
		r.send(w, path, r.root())
	case path == sessionPath && req.Method == http.MethodPost:
		r.login(w, body)
	case !r.allowed(req):
		refuse(w, http.StatusUnauthorized, "NoValidSession", "There is no valid session established with the implementation.")
	case strings.HasPrefix(path, sessionPath+"/") && req.Method == http.MethodDelete:
		delete(r.sessions, strings.TrimPrefix(path, sessionPath+"/"))
		w.WriteHeader(http.StatusNoContent)
	case strings.HasPrefix(path, taskPath):
		r.task(w, path)
	case req.Method == http.MethodGet:
		if o, ok := r.get(path); ok {
			r.send(w, path, o)
			return
		}
		refuse(w, http.StatusNotFound, "ResourceMissingAtURI", fmt.Sprintf("The resource at the URI '%s' was not found.", path))
	default:
		r.change(w, req, path, body)
	}
}

func (r *Redfish) root() object {
	o := object{
		"Id": "RootService", "Name": "Root Service", "RedfishVersion": "1.20.0", "Vendor": "HPE",
		"Systems": link(rootPath + "/Systems"), "Managers": link(rootPath + "/Managers"), "SessionService": link(rootPath + "/SessionService"),
		"Links": object{"Sessions": link(sessionPath)},
	}
	return o
}

func (r *Redfish) login(w http.ResponseWriter, body object) {
	r.logins++
	switch {
	case r.Quirks.NoSessions:
		refuse(w, http.StatusMethodNotAllowed, "OperationNotAllowed", "The operation is not allowed.")
	case body["UserName"] != r.User || body["Password"] != r.Password:
		refuse(w, http.StatusUnauthorized, "ResourceAtUriUnauthorized", "While accessing the resource, the service received an authorization error.")
	default:
		id, token := rand.Text(), rand.Text()
		r.sessions[id] = token
		w.Header().Set("X-Auth-Token", token)
		w.Header().Set("Location", sessionPath+"/"+id)
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(object{"@odata.id": sessionPath + "/" + id, "Id": id, "Name": "Session", "UserName": r.User})
	}
}

// allowed takes a session's token or basic authentication (DSP0266, 13.3).
func (r *Redfish) allowed(req *http.Request) bool {
	if user, password, ok := req.BasicAuth(); ok {
		r.logins++
		return user == r.User && password == r.Password
	}
	for _, token := range r.sessions {
		if token == req.Header.Get("X-Auth-Token") {
			return true
		}
	}
	return false
}

// get returns a resource.
func (r *Redfish) get(path string) (object, bool) {
	owner := r.mediaOwner()
	switch path {
	case rootPath + "/Systems":
		return collection(systemPath), true
	case rootPath + "/Managers":
		return collection(managerPath), true
	case systemPath:
		kinds := []string{"On", "ForceOff", "ForceRestart", "PowerCycle"}
		if r.Quirks.NoPowerCycle {
			kinds = kinds[:3]
		}
		o := object{
			"Id": "1", "Name": "System", "Manufacturer": "HPE", "PowerState": r.power, "Boot": r.boot,
			"Actions": object{"#ComputerSystem.Reset": object{"target": systemPath + "/Actions/ComputerSystem.Reset", "ResetType@Redfish.AllowableValues": kinds}},
		}
		return r.withMedia(o, systemPath), true
	case managerPath:
		o := object{
			"Id": "1", "Name": "Manager", "EthernetInterfaces": link(nicsPath),
			"Actions": object{"#Manager.Reset": object{"target": managerPath + "/Actions/Manager.Reset"}},
		}
		return r.withMedia(o, managerPath), true
	case nicsPath:
		if r.Quirks.TwoNICs {
			return collection(nicsPath+"/usb0", nicsPath+"/eth0"), true
		}
		return collection(nicsPath + "/eth0"), true
	case nicsPath + "/usb0":
		return object{"Id": "usb0", "Name": "USB", "DHCPv4": object{"DHCPEnabled": false}, "IPv4Addresses": []object{{"Address": "169.254.0.17", "AddressOrigin": "Static"}}}, true
	case nicsPath + "/eth0":
		origin := map[bool]string{false: "Static", true: "DHCP"}[r.dhcp]
		return object{"Id": "eth0", "Name": "LAN", "DHCPv4": object{"DHCPEnabled": r.dhcp}, "IPv4Addresses": []object{{"Address": "127.0.0.1", "AddressOrigin": origin}}}, true
	case owner + "/VirtualMedia":
		return collection(owner + mediaName), !r.Quirks.NoMedia
	case owner + mediaName:
		return object{
			"Id": "CD1", "Name": "Virtual CD", "MediaTypes": []string{"CD", "DVD"}, "Image": r.image, "Inserted": r.image != "",
			"Actions": object{
				"#VirtualMedia.InsertMedia": object{"target": owner + mediaName + "/Actions/VirtualMedia.InsertMedia"},
				"#VirtualMedia.EjectMedia":  object{"target": owner + mediaName + "/Actions/VirtualMedia.EjectMedia"},
			},
		}, !r.Quirks.NoMedia
	}
	return nil, false
}

func (r *Redfish) withMedia(o object, path string) object {
	if path == r.mediaOwner() && !r.Quirks.NoMedia {
		o["VirtualMedia"] = link(path + "/VirtualMedia")
	}
	return o
}

func (r *Redfish) tag() string { return fmt.Sprintf(`"%d"`, r.etag) }

func (r *Redfish) send(w http.ResponseWriter, path string, o object) {
	o["@odata.id"] = path
	o["@odata.etag"] = r.tag()
	w.Header().Set("ETag", r.tag())
	w.Header().Set("OData-Version", "4.0")
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(o)
}

// refuse sends an error as DSP0266, 8.6 has it.
func refuse(w http.ResponseWriter, code int, id, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(object{"error": object{
		"code": "Base.1.18." + id, "message": "A general error has occurred.",
		"@Message.ExtendedInfo": []object{{"MessageId": "Base.1.18." + id, "Message": text}},
	}})
}

// change does what a POST or PATCH asks for.
func (r *Redfish) change(w http.ResponseWriter, req *http.Request, path string, body object) {
	if req.Method == http.MethodPatch && r.Quirks.Changing {
		r.Quirks.Changing = false
		r.etag++
	}
	if tag := req.Header.Get("If-Match"); tag != "" && tag != r.tag() {
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed", "The ETag supplied did not match.")
		return
	}
	text, _ := json.Marshal(body) // it came as JSON
	r.log = append(r.log, req.Method+" "+strings.TrimPrefix(path, rootPath)+" "+string(text))
	close(r.logged)
	r.logged = make(chan struct{})
	owner := r.mediaOwner() + mediaName + "/Actions/VirtualMedia."
	switch req.Method + " " + path {
	case "PATCH " + systemPath:
		boot, _ := body["Boot"].(object)
		if _, mode := boot["BootSourceOverrideMode"]; mode && r.Quirks.NoBootMode {
			refuse(w, http.StatusBadRequest, "PropertyNotWritable", "The property BootSourceOverrideMode is a read-only property.")
			return
		}
		r.boot = boot
	case "PATCH " + nicsPath + "/eth0":
		if r.Quirks.NoDHCP {
			refuse(w, http.StatusMethodNotAllowed, "OperationNotAllowed", "The operation is not allowed.")
			return
		}
		v4, _ := body["DHCPv4"].(object)
		r.dhcp = v4["DHCPEnabled"] == true
	case "POST " + systemPath + "/Actions/ComputerSystem.Reset":
		if !r.Quirks.PowerStaysAway {
			r.power = map[any]string{"ForceOff": "Off"}[body["ResetType"]]
			if r.power == "" {
				r.power = "On"
			}
		}
	case "POST " + managerPath + "/Actions/Manager.Reset":
	case "POST " + owner + "InsertMedia":
		if len(body) > 1 && r.Quirks.OldMedia {
			refuse(w, http.StatusBadRequest, "ActionParameterUnknown", "The action InsertMedia was submitted with the invalid parameter Inserted.")
			return
		}
		if r.image != "" {
			refuse(w, http.StatusConflict, "ResourceInUse", "The change to the requested resource failed because the resource is in use.")
			return
		}
		image, _ := body["Image"].(string)
		if r.Quirks.Fetch != nil {
			media, err := fetch(r.Quirks.Fetch, image)
			if err != nil {
				refuse(w, http.StatusBadRequest, "ResourceAtUriInUnknownFormat", err.Error())
				return
			}
			r.media = media
		}
		r.image = image
	case "POST " + owner + "EjectMedia":
		r.image = ""
	default:
		refuse(w, http.StatusMethodNotAllowed, "OperationNotAllowed", "The operation is not allowed.")
		return
	}
	r.etag++
	if r.Quirks.Tasks && req.Method == http.MethodPost {
		monitor := taskPath + rand.Text()
		r.tasks[monitor] = 0
		w.Header().Set("Location", monitor)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// task is a task monitor: 202 at first, then how the task ended.
func (r *Redfish) task(w http.ResponseWriter, path string) {
	asked, ok := r.tasks[path]
	r.tasks[path]++
	switch {
	case !ok:
		refuse(w, http.StatusNotFound, "ResourceMissingAtURI", "There is no such task.")
	case asked == 0:
		w.WriteHeader(http.StatusAccepted)
		json.NewEncoder(w).Encode(object{"TaskState": "Running"})
	case r.Quirks.TaskFails:
		json.NewEncoder(w).Encode(object{"TaskState": "Exception", "Messages": []object{{"Message": "The image could not be mounted."}}})
	default:
		json.NewEncoder(w).Encode(object{"TaskState": "Completed"})
	}
}
