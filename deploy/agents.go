package deploy

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"bootd/internal/store"
)

// An Agent is what is kept of the agent that runs on a node and registered
// with us.
type Agent struct {
	Since    time.Time `json:"since"` // it registered
	Boot     BootState `json:"boot,omitempty"`
	Hostname string    `json:"hostname,omitempty"` // that it says it has
	Version  string    `json:"version,omitempty"`  // of the agent
}

// said returns a with what its agent says now. What it does not say stays.
func (a Agent) said(s Agent) Agent {
	if s.Boot != "" {
		a.Boot = s.Boot
	}
	if s.Hostname != "" {
		a.Hostname = s.Hostname
	}
	if s.Version != "" {
		a.Version = s.Version
	}
	return a
}

// agent is an Agent as it is on disk.
type agent struct {
	Agent
	Hash string `json:"hash"` // of its key, as hashOf has it
}

// hashOf returns the SHA-256 of a key in hexadecimal. A key is 128 random bits,
// so nothing slower is needed to keep it.
func hashOf(key Token) string {
	k := key.key()
	return hex.EncodeToString(k[:])
}

// Agents are the agents of all nodes. A node has one key, which it keeps on its
// disk for as long as it is installed and never asks for again; so it outlives
// our restarts, and ends when the node registers anew. On disk is its hash.
//
// The methods are safe for concurrent use, and those that wait for the disk at
// the same time share one commit.
type Agents struct {
	disk *group

	mu    sync.Mutex // guards the following
	all   map[string]agent
	byKey map[string]string // names of nodes, by hash
}

// OpenAgents reads the agents in table. An agent that cannot be read is as good
// as none: its node is to be registered by hand again, which costs no more than
// a restart of its agent without its credentials.
func OpenAgents(table Table) (*Agents, error) {
	s := &Agents{disk: newGroup(table), all: map[string]agent{}, byKey: map[string]string{}}
	err := table.Scan(func(key, value []byte) error {
		var a agent
		if json.Unmarshal(value, &a) == nil {
			s.putLocked(string(key), a)
		}
		return nil
	})
	return s, err
}

// Register gives the agent of a node a key. It is on disk when Register
// returns, and the one that the node had before is void.
func (s *Agents) Register(now time.Time, node string, said Agent) (Token, error) {
	key := newToken()
	said.Since = now
	return key, s.keep(node, func(agent) agent { return agent{said, hashOf(key)} })
}

// Whose returns the node whose agent has a key; empty: nobody's.
func (s *Agents) Whose(key string) (node string) {
	t, ok := parseToken(key)
	if !ok {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byKey[hashOf(t)]
}

// Heard keeps what the agent of a node says of itself, on disk where it has
// changed. Of one that did not register nothing is kept.
func (s *Agents) Heard(node string, said Agent) error {
	return s.keep(node, func(a agent) agent {
		if a == (agent{}) {
			return a
		}
		return agent{a.said(said), a.Hash}
	})
}

// Forget makes the key of a node void: what is known by that name from then on
// is another machine, or none.
func (s *Agents) Forget(node string) error {
	return s.keep(node, func(agent) agent { return agent{} })
}

// Get returns what is kept of the agent of a node; zero: none registered.
func (s *Agents) Get(node string) Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[node].Agent
}

// keep changes what is kept of a node, in memory first: two who change the same
// are in the same order there and on disk.
func (s *Agents) keep(node string, change func(agent) agent) error {
	s.mu.Lock()
	was := s.all[node]
	is := change(was)
	if was == is {
		s.mu.Unlock()
		return nil
	}
	s.putLocked(node, is)
	saved := s.disk.add(is.change(node))
	s.mu.Unlock()
	if err := s.disk.wait(saved); err != nil {
		s.restore(node, was, is)
		return fmt.Errorf("agent of %s: %w", node, err)
	}
	return nil
}

// change is what is kept of a node on disk; nothing of the zero agent.
func (a agent) change(node string) store.Change {
	c := store.Change{Key: []byte(node)}
	if a == (agent{}) {
		return c
	}
	value, err := json.Marshal(a)
	if err != nil {
		panic("deploy: an agent has no JSON form: " + err.Error())
	}
	c.Value = value
	return c
}

// restore takes back what could not be kept, unless it was changed since.
func (s *Agents) restore(node string, was, is agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[node] == is {
		s.putLocked(node, was)
	}
}

func (s *Agents) putLocked(node string, a agent) {
	delete(s.byKey, s.all[node].Hash)
	if a == (agent{}) {
		delete(s.all, node)
		return
	}
	s.all[node], s.byKey[a.Hash] = a, node
}
