package main

import (
	"os"
	"path/filepath"
	"strings"

	types "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"
)

func init() { judgeIpam = judgeHostLocal }

// Does what host-local's ADD does: it reads the configuration, takes one address from each set of ranges, and puts them
// into a result of the version asked for. The leases are in a directory of our own, whatever `dataDir` says, and the
// file that `resolvConf` names is not read.
func judgeHostLocal(scratch string, conf []byte) error {
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
	_, err = result.GetAsVersion(version)
	return err
}
