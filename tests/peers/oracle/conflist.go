package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

type network struct {
	Name         string          `json:"name"`
	Version      string          `json:"version"`
	Chain        []string        `json:"chain"`
	Capabilities map[string]bool `json:"capabilities"`
}

type conflistAnswer struct {
	Load    verdict  `json:"load"`
	Network *network `json:"network"`
	// Null where the conflist does not load.
	Add *verdict `json:"add"`
}

func judgeConflist(scratch string, text []byte) (*conflistAnswer, error) {
	list, err := libcni.ConfListFromBytes(text)
	if err == nil && len(list.Plugins) == 0 {
		err = errors.New("no plugins, as there are no drop-ins")
	}
	return judgeLoaded(scratch, list, err)
}

func judgeSingle(scratch string, text []byte) (*conflistAnswer, error) {
	list, err := loadSingle(text)
	return judgeLoaded(scratch, list, err)
}

// As go-cni and CRI-O load a file that is no conflist. Older libraries let one without a type pass.
func loadSingle(text []byte) (*libcni.NetworkConfigList, error) {
	conf, err := libcni.ConfFromBytes(text)
	if err != nil {
		return nil, err
	}
	if conf.Network.Type == "" {
		return nil, errors.New("no type")
	}
	return libcni.ConfListFromConf(conf)
}

func judgeLoaded(scratch string, list *libcni.NetworkConfigList, err error) (*conflistAnswer, error) {
	if err != nil {
		return &conflistAnswer{Load: refusal(err)}, nil
	}
	added, err := add(scratch, list)
	if err != nil {
		return nil, err
	}
	return &conflistAnswer{Network: describe(list), Add: &added}, nil
}

func describe(list *libcni.NetworkConfigList) *network {
	found := &network{Name: list.Name, Version: list.CNIVersion, Capabilities: map[string]bool{}}
	for _, plugin := range list.Plugins {
		found.Chain = append(found.Chain, plugin.Network.Type)
		for name, enabled := range plugin.Network.Capabilities {
			if enabled {
				found.Capabilities[name] = true
			}
		}
	}
	return found
}

// Runs libcni's ADD for a pod, with plugins that do nothing.
func add(scratch string, list *libcni.NetworkConfigList) (verdict, error) {
	binaries, cache := filepath.Join(scratch, "bin"), filepath.Join(scratch, "cache")
	for _, directory := range []string{binaries, cache} {
		if err := os.MkdirAll(directory, 0o700); err != nil {
			return verdict{}, err
		}
	}
	runtime := libcni.NewCNIConfigWithCacheDir([]string{binaries}, cache, willing{})
	_, err := runtime.AddNetworkList(context.Background(), list, &libcni.RuntimeConf{
		ContainerID: strings.Repeat("0123456789abcdef", 4),
		NetNS:       "/var/run/netns/pod",
		IfName:      "eth0",
		CapabilityArgs: map[string]interface{}{
			"portMappings": []interface{}{},
			"dns":          map[string]interface{}{},
		},
	})
	return refusal(err), os.RemoveAll(cache)
}
