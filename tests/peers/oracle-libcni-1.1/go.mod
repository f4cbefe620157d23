module peers/oracle-libcni-1.1

go 1.26

tool peers/oracle-libcni-1.1

require (
	github.com/containerd/go-cni v1.1.9
	github.com/containernetworking/cni v1.1.2
)
