module peers/oracle-libcni-1.2

go 1.26

tool peers/oracle-libcni-1.2

require (
	github.com/containerd/go-cni v1.1.10
	github.com/containernetworking/cni v1.2.3
)
