package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"
)

func init() { judgeIpam = judgeHostLocal }

// Has host-local judge every plugin of a conflist that names it, with the configuration that libcni gives to a plugin and
// a reference plugin gives on.
func judgeHostLocal(scratch string, conflist []byte) error {
	list, err := libcni.ConfListFromBytes(conflist)
	if err != nil {
		return err
	}
	for _, plugin := range list.Plugins {
		if plugin.Network.IPAM.Type != "host-local" {
			continue
		}
		given, err := libcni.InjectConf(plugin, map[string]interface{}{"name": list.Name, "cniVersion": list.CNIVersion})
		if err != nil {
			return err
		}
		if err := addAddress(scratch, given.Bytes); err != nil {
			return err
		}
	}
	return nil
}

// Does what host-local's ADD does: it reads the configuration, takes one address from each set of ranges, and prints them
// as a result of the version asked for, which the plugin that called it reads. The leases are in a directory of our own,
// whatever `dataDir` says, and the file that `resolvConf` names is not read.
func addAddress(scratch string, conf []byte) error {
	ipam, version, err := allocator.LoadIPAMConfig(conf, "")
	if err != nil {
		return err
	}
	leases := filepath.Join(scratch, "leases")
	store, err := disk.New("net", leases)
	if err != nil {
		return err
	}
	defer os.RemoveAll(leases)
	defer store.Close()
	result := types.Result{CNIVersion: types.ImplementedSpecVersion, Routes: ipam.Routes}
	for index := range ipam.Ranges {
		ranges := allocator.NewIPAllocator(&ipam.Ranges[index], store, index)
		address, err := ranges.Get(strings.Repeat("0123456789abcdef", 4), "eth0", nil)
		if err != nil {
			return err
		}
		result.IPs = append(result.IPs, address)
	}
	converted, err := result.GetAsVersion(version)
	if err != nil {
		return err
	}
	var printed bytes.Buffer
	if err := converted.PrintTo(&printed); err != nil {
		return err
	}
	_, err = create.Create(version, printed.Bytes())
	return err
}
