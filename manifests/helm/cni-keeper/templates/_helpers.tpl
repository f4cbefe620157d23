{{- define "cni-keeper.name" -}}
{{ default .Chart.Name .Values.nameOverride }}
{{- end }}

{{/* The name of the DaemonSet. The one that removes the agents' files has another name and replaces theirs. Helm applies on
the server, where older API servers cannot remove a probe: its defaults stay, and are refused
(kubernetes/kubernetes#99037). */}}
{{- define "cni-keeper.daemonset" -}}
{{ include "cni-keeper.name" . }}{{ if .Values.uninstall }}-uninstall{{ end }}
{{- end }}

{{/* The labels by which the DaemonSet finds its pods. They cannot be changed later. */}}
{{- define "cni-keeper.selector" -}}
app.kubernetes.io/name: {{ include "cni-keeper.name" . }}
app.kubernetes.io/component: {{ if .Values.uninstall }}uninstall{{ else }}agent{{ end }}
{{- end }}

{{- define "cni-keeper.labels" -}}
{{ include "cni-keeper.selector" . }}
app.kubernetes.io/part-of: cni-keeper
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The labels of a program beside the agent: the chart, the program's own name, and that of its part here. */}}
{{- define "cni-keeper.companion" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/component: {{ index . 2 }}
app.kubernetes.io/part-of: cni-keeper
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{- define "cni-keeper.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{/* The mounted directories of the node, each as a map: those of the values, and those in which the daemon of a profile
writes what the conflist waits for. */}}
{{- define "cni-keeper.directories" -}}
{{- $daemons := dict "calico" (list "/var/lib/calico") "canal" (list "/run/flannel" "/var/lib/calico") "cilium" (list "/run/cilium") "flannel" (list "/run/flannel") "romana" (list "/run/romana") -}}
{{- $directories := list -}}
{{- $paths := list -}}
{{- range .Values.hostDirectories -}}
  {{- $directory := dict "path" . -}}
  {{- if kindIs "map" . -}}{{- $directory = . -}}{{- end -}}
  {{- $directories = append $directories $directory -}}
  {{- $paths = append $paths $directory.path -}}
{{- end -}}
{{- range index $daemons (default "" .Values.config.profile) -}}
  {{- if not (has . $paths) -}}
    {{- $directories = append $directories (dict "path" . "readOnly" true) -}}
  {{- end -}}
{{- end -}}
{{- toYaml $directories -}}
{{- end }}

{{/* The name of the volume that holds a directory of the node: /etc/cni is etc-cni. */}}
{{- define "cni-keeper.volume" -}}
{{ . | trimPrefix "/" | lower | replace "/" "-" | replace "." "-" | replace "_" "-" | trunc 63 | trimAll "-" }}
{{- end }}

{{/* The configuration. The reference profiles need this node's pod range; without a fact, a FILL-IN asks for it. */}}
{{- define "cni-keeper.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $network := default dict $config.network -}}
{{- if and (hasPrefix "reference-" (default "" $config.profile)) (not $network.facts) (not $network.conflist) -}}
  {{- $ask := "FILL-IN: the pod range of the cluster's only node, such as 10.244.0.0/24; with more nodes, set kubernetesApi.enabled=true and config.network.facts=[{kubernetes: node}]" -}}
  {{- $fact := dict "values" (dict "node.podCIDR" $ask) -}}
  {{- $_ := set $config "network" (merge (dict "facts" (list $fact)) $network) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* The address of the agent: config.http.listen or its default. */}}
{{- define "cni-keeper.listen" -}}
{{- $http := default dict .Values.config.http -}}
{{ default "127.0.0.1:9742" $http.listen }}
{{- end }}

{{/* The port behind the last colon, and the address before it without the brackets of IPv6. */}}
{{- define "cni-keeper.port" -}}
{{ regexFind "[0-9]+$" . }}
{{- end }}
{{- define "cni-keeper.address" -}}
{{ regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" }}
{{- end }}

{{/* The request of one probe. It uses the node's loopback, since there may be no other way to the agent. */}}
{{- define "cni-keeper.probe" -}}
{{- $listen := include "cni-keeper.listen" .root -}}
{{- $address := include "cni-keeper.address" $listen -}}
httpGet:
  host: {{ if or (eq $address "0.0.0.0") (eq $address "::") }}127.0.0.1{{ else }}{{ $address | quote }}{{ end }}
  port: {{ include "cni-keeper.port" $listen }}
  path: {{ .path }}
{{- end }}

{{/* Refuses a path of the configuration, `path` under the key `key`, that no mounted directory holds. */}}
{{- define "cni-keeper.held" -}}
{{- $path := .path | trimPrefix "unix://" -}}
{{- $held := hasPrefix "FILL-IN:" $path -}}
{{- range .directories -}}
  {{- if hasPrefix (printf "%s/" .path) $path -}}{{- $held = true -}}{{- end -}}
{{- end -}}
{{- if not $held -}}
  {{- fail (printf "hostDirectories: none holds %s, %s; add %s" .key $path (dir $path)) -}}
{{- end -}}
{{- end }}

{{/* Refuses two volumes of one name. The API server would refuse them as well, but not say where they come from. */}}
{{- define "cni-keeper.checkVolumes" -}}
{{- $taken := dict -}}
{{- range list "config" "kubernetes-api" "ca" "registry" "mirror" "bundle" -}}
  {{- $_ := set $taken . "the chart's own" -}}
{{- end -}}
{{- range .directories -}}
  {{- $path := .path -}}
  {{- $name := include "cni-keeper.volume" $path -}}
  {{- with get $taken $name -}}
    {{- fail (printf "hostDirectories: %s would be the volume %s, which is %s; leave one of them out, or mount a directory above both" $path $name .) -}}
  {{- end -}}
  {{- $_ := set $taken $name $path -}}
{{- end -}}
{{- range .root.Values.extraVolumes -}}
  {{- if hasKey $taken .name -}}
    {{- fail (printf "extraVolumes: the volume %s is there already, %s; call yours otherwise" .name (get $taken .name)) -}}
  {{- end -}}
  {{- $_ := set $taken .name "one of extraVolumes" -}}
{{- end -}}
{{- end }}

{{/* Refuses labels that are the chart's own: with them, the DaemonSet would not find its pods. */}}
{{- define "cni-keeper.checkLabels" -}}
{{- range $key, $labels := dict "podLabels" .podLabels "podMonitor.labels" .podMonitor.labels "prometheusRule.labels" .prometheusRule.labels "dashboard.labels" .dashboard.labels -}}
  {{- range $label, $_ := $labels -}}
    {{- if has $label (list "app.kubernetes.io/name" "app.kubernetes.io/component" "app.kubernetes.io/part-of" "app.kubernetes.io/version" "app.kubernetes.io/managed-by") -}}
      {{- fail (printf "%s: %s is the chart's own label, by which objects are found; take another" $key $label) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* Refuses values that do not go together, which a schema cannot check. */}}
{{- define "cni-keeper.check" -}}
{{- $config := .Values.config -}}
{{- $directories := include "cni-keeper.directories" . | fromYamlArray -}}
{{- $paths := default dict $config.paths -}}
{{- $binDir := default "/opt/cni/bin" $paths.binDir -}}
{{- $confDir := default "/etc/cni/net.d" $paths.confDir -}}
{{- $stateDir := default (printf "%s/.cni-keeper" (dir $binDir)) $paths.stateDir -}}
{{- $network := default dict $config.network -}}
{{- range $key, $path := dict "binDir" $binDir "confDir" $confDir "stateDir" $stateDir -}}
  {{- include "cni-keeper.held" (dict "key" (printf "config.paths.%s" $key) "path" $path "directories" $directories) -}}
{{- end -}}
{{- range $network.requires -}}
  {{- with coalesce .file .unix -}}
    {{- include "cni-keeper.held" (dict "key" "config.network.requires" "path" . "directories" $directories) -}}
  {{- end -}}
{{- end -}}
{{- range $network.facts -}}
  {{- with .envFile -}}
    {{- include "cni-keeper.held" (dict "key" "config.network.facts" "path" . "directories" $directories) -}}
  {{- end -}}
{{- end -}}
{{- with $config.runtime -}}
  {{- include "cni-keeper.held" (dict "key" "config.runtime.endpoint" "path" .endpoint "directories" $directories) -}}
{{- end -}}
{{- range $key, $path := dict "binDir" $binDir "confDir" $confDir -}}
  {{- range $directories -}}
    {{- if eq .path (trimSuffix "/" $path) -}}
      {{- fail (printf "hostDirectories: %s is config.paths.%s itself, which a package upgrade deletes and makes again; who has mounted it keeps the deleted one. Mount its parent alone, %s" .path $key (dir .path)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- include "cni-keeper.checkLabels" .Values -}}
{{- include "cni-keeper.checkVolumes" (dict "root" . "directories" $directories) -}}
{{- $fetch := default dict $config.fetch -}}
{{- $files := list (list "caFile" $fetch.caFile) (list "registryConfig" $fetch.registryConfig) -}}
{{- range $fetch.access -}}
  {{- $files = concat $files (list (list "access" .headersFile) (list "access" .certFile) (list "access" .keyFile)) -}}
{{- end -}}
{{- $mounted := dict "/etc/cni-keeper-ca/" "caConfigMap" "/etc/cni-keeper-registry/" "registrySecret" "/etc/cni-keeper-mirror/" "mirrorSecret" -}}
{{- range $file := $files -}}
  {{- range $directory, $value := $mounted -}}
    {{- if and (hasPrefix $directory (default "" (last $file))) (not (get $.Values $value)) -}}
      {{- fail (printf "config.fetch.%s: nothing is mounted at %s; name the object that holds it as %s" (first $file) (last $file) $value) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $key := list "nodeRanges" "flanneld" -}}
  {{- if and (index $.Values $key).enabled (not $.Values.clusterCIDR) -}}
    {{- fail (printf "%s.enabled: it needs the range that the pods of the cluster get their addresses from; set clusterCIDR, such as 10.244.0.0/16" $key) -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.seed.image .Values.seed.directory -}}
  {{- fail (printf "seed: there are an image, %s, and a directory, %s; one bundle is mounted, so keep one of the two" .Values.seed.image .Values.seed.directory) -}}
{{- end -}}
{{- $http := default dict $config.http -}}
{{- $listen := include "cni-keeper.listen" . -}}
{{- range $key, $at := dict "listen" $listen "metricsListen" $http.metricsListen -}}
  {{- if and $at (or (lt (include "cni-keeper.port" $at | int) 1) (gt (include "cni-keeper.port" $at | int) 65535)) -}}
    {{- fail (printf "config.http.%s: %s has no port that can be asked; write one from 1 to 65535" $key $at) -}}
  {{- end -}}
{{- end -}}
{{- with $http.metricsListen -}}
  {{- if eq (include "cni-keeper.port" .) (include "cni-keeper.port" $listen) -}}
    {{- fail (printf "config.http.metricsListen: %s has the port of config.http.listen, %s; give it another" . $listen) -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled (regexMatch "^($|127\\.|\\[::1\\])" (default "" $http.metricsListen)) -}}
  {{- fail "podMonitor.enabled: Prometheus cannot reach the agent on loopback; set config.http.metricsListen as well, such as 0.0.0.0:9743" -}}
{{- end -}}
{{- if not .Values.kubernetesApi.enabled -}}
  {{- if $config.kubernetes -}}
    {{- fail "config.kubernetes: the agent has no right to speak to the API server; set kubernetesApi.enabled=true as well" -}}
  {{- end -}}
  {{- range $network.facts -}}
    {{- if .kubernetes -}}
    {{- fail "config.network.facts: the agent has no right to ask the API server; set kubernetesApi.enabled=true as well" -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* A line for each string in the tree `value`, found at `at`, that the operator must fill in. */}}
{{- define "cni-keeper.fillIns" -}}
{{- $at := .at -}}
{{- if kindIs "map" .value -}}
  {{- range $key, $value := .value -}}
    {{- include "cni-keeper.fillIns" (dict "at" (printf "%s.%s" $at $key) "value" $value) -}}
  {{- end -}}
{{- else if kindIs "slice" .value -}}
  {{- range $index, $value := .value -}}
    {{- include "cni-keeper.fillIns" (dict "at" (printf "%s[%d]" $at $index) "value" $value) -}}
  {{- end -}}
{{- else if hasPrefix "FILL-IN:" (toString .value) }}
  {{ $at }}: {{ trimPrefix "FILL-IN:" .value | trim }}
{{- end -}}
{{- end }}

{{/* A line for what the profile itself asks for: its plugin is published in an image only, and the operator names its digest. */}}
{{- define "cni-keeper.profileAsks" -}}
{{- $profile := default "" .Values.config.profile -}}
{{- if has $profile (list "calico" "canal" "cilium" "romana" "weave") -}}
  {{- $artifact := ternary "calico" $profile (eq $profile "canal") -}}
  {{- $given := false -}}
  {{- range .Values.config.artifacts -}}
    {{- if and (eq .name $artifact) .sources (or .version (eq $profile "weave")) -}}{{- $given = true -}}{{- end -}}
  {{- end -}}
  {{- if eq $profile "romana" -}}
    {{- $given = and $given (get (default dict .Values.config.network) "facts") -}}
  {{- end -}}
  {{- if not $given }}
  config: the image that the plugin of {{ $profile }} is taken out of, by its digest, and more; manifests/profiles/{{ $profile }}/config.yaml has what to write
  {{- end -}}
{{- end -}}
{{- end }}
