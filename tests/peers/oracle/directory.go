package main

import (
	"context"
	"path/filepath"
	"sort"
	"strings"

	gocni "github.com/containerd/go-cni"
	"github.com/containernetworking/cni/libcni"
)

type directoryAnswer struct {
	// With the default, the first file alone.
	First loaded `json:"first"`
	// With `max_conf_num = 2`, the first two.
	Two loaded `json:"two"`
	// With `max_conf_num = 0`, every file.
	All loaded `json:"all"`
	// What CRI-O takes; null for nothing.
	Crio *picked `json:"crio"`
}

type loaded struct {
	verdict
	Networks []network `json:"networks"`
}

type picked struct {
	// Its name as bytes, since it need not be UTF-8.
	File    []byte   `json:"file"`
	Network *network `json:"network"`
}

func judgeDirectory(dir string, answers map[string][]string) (*directoryAnswer, error) {
	first, err := loadAsContainerd(dir, 1)
	if err != nil {
		return nil, err
	}
	two, err := loadAsContainerd(dir, 2)
	if err != nil {
		return nil, err
	}
	all, err := loadAsContainerd(dir, 0)
	if err != nil {
		return nil, err
	}
	crio, err := pickAsCrio(dir, answering(answers))
	if err != nil {
		return nil, err
	}
	return &directoryAnswer{First: *first, Two: *two, All: *all, Crio: crio}, nil
}

// Loads a directory with the options of containerd's CRI service.
func loadAsContainerd(dir string, maxConfNum int) (*loaded, error) {
	runtime, err := gocni.New(
		gocni.WithMinNetworkCount(2),
		gocni.WithPluginConfDir(dir),
		gocni.WithPluginMaxConfNum(maxConfNum),
	)
	if err != nil {
		return nil, err
	}
	answer := &loaded{verdict: refusal(runtime.Load(gocni.WithLoNetwork, gocni.WithDefaultConf))}
	for _, found := range runtime.GetConfig().Networks {
		if found.IFName == "lo" {
			continue
		}
		one := network{Name: found.Config.Name, Version: found.Config.CNIVersion}
		for _, plugin := range found.Config.Plugins {
			one.Chain = append(one.Chain, plugin.Network.Type)
		}
		answer.Networks = append(answer.Networks, one)
	}
	return answer, nil
}

// CRI-O's library is in no public proxy, so its rule is put together here from libcni's own functions: of the files in
// order, the first one that loads and passes libcni's validation.
func pickAsCrio(dir string, plugins answering) (*picked, error) {
	files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		return nil, err
	}
	sort.Strings(files)
	runtime := libcni.NewCNIConfig([]string{"/nonexistent"}, plugins)
	for _, file := range files {
		list, err := loadFile(file)
		if err != nil || len(list.Plugins) == 0 {
			continue
		}
		if _, err := runtime.ValidateNetworkList(context.Background(), list); err != nil {
			continue
		}
		network := describe(list)
		if network.Name == "" {
			network.Name = filepath.Base(file)
		}
		return &picked{File: []byte(filepath.Base(file)), Network: network}, nil
	}
	return nil, nil
}

func loadFile(file string) (*libcni.NetworkConfigList, error) {
	if strings.HasSuffix(file, ".conflist") {
		return libcni.ConfListFromFile(file)
	}
	conf, err := libcni.ConfFromFile(file)
	if err != nil {
		return nil, err
	}
	return loadSingle(conf.Bytes)
}
