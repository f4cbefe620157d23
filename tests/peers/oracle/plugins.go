package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/version"
)

// Plugins in place of processes: every one that a bin directory can hold is there, supports every version, and does
// nothing. What libcni does before and after is its own.
type willing struct{}

var _ invoke.Exec = willing{}

func (willing) FindInPath(plugin string, paths []string) (string, error) {
	// libcni looks for a real file, so there is one for as long as it looks, unless no file can have that name.
	path := filepath.Join(paths[0], plugin)
	if !strings.ContainsRune(plugin, os.PathSeparator) && os.WriteFile(path, nil, 0o755) == nil {
		defer os.Remove(path)
	}
	return invoke.FindInPath(plugin, paths)
}

func (willing) ExecPlugin(_ context.Context, _ string, conf []byte, environ []string) ([]byte, error) {
	if !slices.Contains(environ, "CNI_COMMAND=ADD") {
		return nil, fmt.Errorf("only ADD is played")
	}
	asked, err := (&version.ConfigDecoder{}).Decode(conf)
	if err != nil {
		return nil, err
	}
	const address = `"192.0.2.2/24"`
	var result string
	// Every version that there is, also those that this libcni does not know.
	switch asked {
	case "0.1.0", "0.2.0":
		result = `"ip4": {"ip": ` + address + `}`
	case "0.3.0", "0.3.1", "0.4.0":
		result = `"ips": [{"version": "4", "address": ` + address + `}]`
	case "1.0.0", "1.1.0":
		result = `"ips": [{"address": ` + address + `}]`
	default:
		return nil, fmt.Errorf("no plugin supports version %q", asked)
	}
	return fmt.Appendf(nil, `{"cniVersion": %q, %s}`, asked, result), nil
}

func (willing) Decode(text []byte) (version.PluginInfo, error) {
	return (&version.PluginDecoder{}).Decode(text)
}

// Plugins that answer VERSION with these versions, and are missing where they have none.
type answering map[string][]string

var _ invoke.Exec = answering{}

func (answers answering) FindInPath(plugin string, paths []string) (string, error) {
	if _, there := answers[plugin]; there {
		return plugin, nil
	}
	return invoke.FindInPath(plugin, paths)
}

func (answers answering) ExecPlugin(_ context.Context, plugin string, _ []byte, _ []string) ([]byte, error) {
	return json.Marshal(map[string]any{"cniVersion": version.Current(), "supportedVersions": answers[plugin]})
}

func (answering) Decode(text []byte) (version.PluginInfo, error) {
	return willing{}.Decode(text)
}
