{{/* The configuration's files, and what they need of the Kubernetes API. */}}

{{- define "alloy.files" -}}
{{- $config := .Values.alloy.configMap -}}
{{- $files := deepCopy $config.files -}}
{{- $default := $config.folder | ternary "" "logging {\n\tlevel  = \"info\"\n\tformat = \"logfmt\"\n}\n" -}}
{{- with $config.content | default $default -}}
  {{- $_ := set $files ($config.key | default "config.alloy") . -}}
{{- end -}}
{{- range $name, $text := $files -}}
  {{- if $config.tpl }}{{ $_ := set $files $name (tpl $text $) }}{{ end -}}
{{- end -}}
{{- toYaml $files -}}
{{- end }}

{{- /* As YAML: `rules`, `clusterRules`. Least rights: only what the components that are used read, and nothing without one. */}}
{{- define "alloy.rules" -}}
{{- $text := .Values.alloy.configMap.create | ternary (include "alloy.files" . | fromYaml | values | join "\n") "" -}}
{{- $used := dict -}}
{{- range list "discovery.kubernetes" "loki.source.kubernetes" "loki.source.kubernetes_events" "prometheus.operator.podmonitors" "prometheus.operator.servicemonitors" -}}
  {{- if or (has . $.Values.rbac.components) (regexMatch (printf `(?m)^\s*%s\s+"` (replace "." `\.` .)) $text) }}{{ $_ := set $used . true }}{{ end -}}
{{- end -}}
{{- $core := list -}}{{- $gets := list -}}{{- $rules := list -}}{{- $clusterRules := list -}}
{{- $read := list "get" "list" "watch" -}}
{{- if hasKey $used "discovery.kubernetes" -}}
  {{- /* Of a configuration that is not here, roles cannot be told apart. */}}
  {{- $known := not (has "discovery.kubernetes" .Values.rbac.components) -}}
  {{- range $role, $resources := dict "pod" "pods" "service" "services" "endpoints" "endpoints services pods" "endpointslice" "services pods" -}}
    {{- if or (not $known) (regexMatch (printf `role\s*=\s*"%s"` $role) $text) }}{{ $core = concat $core (splitList " " $resources) }}{{ end -}}
  {{- end -}}
  {{- range $role, $group := dict "endpointslice" "discovery.k8s.io" "ingress" "networking.k8s.io" -}}
    {{- if or (not $known) (regexMatch (printf `role\s*=\s*"%s"` $role) $text) -}}
      {{- $rules = append $rules (dict "apiGroups" (list $group) "resources" (list (eq $role "ingress" | ternary "ingresses" "endpointslices")) "verbs" $read) -}}
    {{- end -}}
  {{- end -}}
  {{- if or (not $known) (regexMatch `role\s*=\s*"node"|node\s*=\s*true` $text) -}}
    {{- $clusterRules = append $clusterRules (dict "apiGroups" (list "") "resources" (list "nodes") "verbs" $read) -}}
  {{- end -}}
  {{- if or (not $known) (regexMatch `role\s*=\s*"node"` $text) -}}
    {{- /* What is scraped at a node is its kubelet, which asks whether it may be read. */}}
    {{- $clusterRules = append $clusterRules (dict "apiGroups" (list "") "resources" (list "nodes/metrics") "verbs" (list "get")) -}}
  {{- end -}}
  {{- if or (not $known) (regexMatch `namespace\s*=\s*true` $text) }}{{ $core = append $core "namespaces" }}{{ end -}}
{{- end -}}
{{- if hasKey $used "loki.source.kubernetes" -}}{{- $core = append $core "pods" -}}{{- $gets = append $gets "pods/log" -}}{{- end -}}
{{- if hasKey $used "loki.source.kubernetes_events" -}}{{- $core = append $core "events" -}}{{- end -}}
{{- $operator := list -}}
{{- range $name := list "podmonitors" "servicemonitors" -}}
  {{- if hasKey $used (printf "prometheus.operator.%s" $name) }}{{ $operator = append $operator $name }}{{ end -}}
{{- end -}}
{{- with $operator -}}
  {{- $rules = append $rules (dict "apiGroups" (list "monitoring.coreos.com") "resources" . "verbs" $read) -}}
  {{- $core = append $core "pods" -}}
  {{- if has "servicemonitors" . -}}
    {{- $rules = append $rules (dict "apiGroups" (list "discovery.k8s.io") "resources" (list "endpointslices") "verbs" $read) -}}
    {{- $core = concat $core (list "services" "endpoints") -}}
  {{- end -}}
  {{- /* A monitor may ask for the labels of nodes (attachMetadata), and name Secrets. */}}
  {{- $clusterRules = append $clusterRules (dict "apiGroups" (list "") "resources" (list "nodes") "verbs" $read) -}}
  {{- if $.Values.rbac.secrets }}{{ $gets = concat $gets (list "secrets" "configmaps") }}{{ end -}}
{{- end -}}
{{- with $core }}{{ $rules = append $rules (dict "apiGroups" (list "") "resources" (uniq . | sortAlpha) "verbs" $read) }}{{ end -}}
{{- with $gets }}{{ $rules = append $rules (dict "apiGroups" (list "") "resources" . "verbs" (list "get")) }}{{ end -}}
{{- if not (kindIs "invalid" .Values.rbac.rules) }}{{ $rules = .Values.rbac.rules }}{{ end -}}
{{- if not (kindIs "invalid" .Values.rbac.clusterRules) }}{{ $clusterRules = .Values.rbac.clusterRules }}{{ end -}}
{{- toYaml (dict "rules" $rules "clusterRules" $clusterRules) -}}
{{- end }}

{{- define "alloy.hasToken" -}}
{{- $rules := include "alloy.rules" . | fromYaml -}}
{{- $given := .Values.serviceAccount.automountServiceAccountToken -}}
{{- kindIs "invalid" $given | ternary (or (gt (len $rules.rules) 0) (gt (len $rules.clusterRules) 0)) $given -}}
{{- end }}
