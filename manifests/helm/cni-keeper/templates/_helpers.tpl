{{- define "cni-keeper.name" -}}
{{ default .Chart.Name .Values.nameOverride }}
{{- end }}

{{/* What the DaemonSet finds its pods by, which can never be changed. */}}
{{- define "cni-keeper.selector" -}}
app.kubernetes.io/name: {{ include "cni-keeper.name" . }}
app.kubernetes.io/component: agent
{{- end }}

{{- define "cni-keeper.labels" -}}
{{ include "cni-keeper.selector" . }}
app.kubernetes.io/part-of: cni-keeper
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "cni-keeper.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{/* The name of the volume that holds a directory of the node: /etc/cni is etc-cni. */}}
{{- define "cni-keeper.volume" -}}
{{ . | trimPrefix "/" | lower | replace "/" "-" | replace "." "-" | replace "_" "-" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Where the agent serves: config.http.listen or its default. */}}
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

{{/* What one probe asks, on the node's loopback since there may be no other way to the agent. */}}
{{- define "cni-keeper.probe" -}}
{{- $listen := include "cni-keeper.listen" .root -}}
{{- $address := include "cni-keeper.address" $listen -}}
httpGet:
  host: {{ if or (eq $address "0.0.0.0") (eq $address "::") }}127.0.0.1{{ else }}{{ $address | quote }}{{ end }}
  port: {{ include "cni-keeper.port" $listen }}
  path: {{ .path }}
{{- end }}

{{/* What of the configuration asks the API server: "true" or nothing. */}}
{{- define "cni-keeper.asksForFacts" -}}
{{- $network := default dict .Values.config.network -}}
{{- range $network.facts }}{{ if hasKey . "kubernetes" }}true{{ end }}{{ end -}}
{{- end }}

{{/* Refuses a path of the configuration, `path` under the key `key`, that no mounted directory holds. */}}
{{- define "cni-keeper.held" -}}
{{- $path := .path | trimPrefix "unix://" -}}
{{- $held := hasPrefix "FILL-IN: " $path -}}
{{- range .directories -}}
  {{- if hasPrefix (printf "%s/" .) $path -}}{{- $held = true -}}{{- end -}}
{{- end -}}
{{- if not $held -}}
  {{- fail (printf "hostDirectories: none holds %s, %s; add %s" .key $path (dir $path)) -}}
{{- end -}}
{{- end }}

{{/* Refuses what no schema can: values that do not go together. */}}
{{- define "cni-keeper.check" -}}
{{- $config := .Values.config -}}
{{- $directories := .Values.hostDirectories -}}
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
{{- $http := default dict $config.http -}}
{{- if and .Values.podMonitor.enabled (not $http.metricsListen) -}}
  {{- fail "podMonitor.enabled: Prometheus cannot reach the agent on loopback; set config.http.metricsListen as well, such as 0.0.0.0:9743" -}}
{{- end -}}
{{- if not .Values.kubernetesApi.enabled -}}
  {{- if $config.kubernetes -}}
    {{- fail "config.kubernetes: the agent has no right to speak to the API server; set kubernetesApi.enabled=true as well" -}}
  {{- end -}}
  {{- if include "cni-keeper.asksForFacts" . -}}
    {{- fail "config.network.facts: the agent has no right to ask the API server; set kubernetesApi.enabled=true as well" -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* A line for each string of the tree `value`, found at `at`, that waits for the operator. */}}
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
{{- else if hasPrefix "FILL-IN: " (toString .value) }}
  {{ $at }}: {{ trimPrefix "FILL-IN: " .value }}
{{- end -}}
{{- end }}
