{{/* The pod, the same for all three kinds of workload. */}}

{{- define "alloy.podSecurityContext" -}}
{{- $context := deepCopy (.Values.global.podSecurityContext | default dict) -}}
{{- if and (include "alloy.readsNodeLogs" .) (eq (int64 $context.runAsUser) 65532) -}}
  {{- $_ := set $context "runAsNonRoot" false -}}
  {{- $_ := set $context "runAsUser" 0 -}}
  {{- $_ := set $context "runAsGroup" 0 -}}
{{- end -}}
{{- toYaml $context -}}
{{- end }}

{{- define "alloy.spread" -}}
{{- $hard := eq .Values.controller.spread "hard" -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "alloy.selectorLabels" . | fromYaml)) -}}
{{- if .Values.controller.affinity }}
affinity: {{- toYaml .Values.controller.affinity | nindent 2 }}
{{- else if eq .Values.controller.spread "none" }}
{{- else if $hard }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      {{- toYaml (list $term) | nindent 6 }}
{{- else if ne .Values.controller.type "daemonset" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      {{- toYaml (list (dict "weight" 100 "podAffinityTerm" $term)) | nindent 6 }}
{{- end }}
{{- if .Values.controller.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml .Values.controller.topologySpreadConstraints | nindent 2 }}
{{- else if and (ne .Values.controller.spread "none") (ne .Values.controller.type "daemonset") }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: {{ $hard | ternary "DoNotSchedule" "ScheduleAnyway" }}
    labelSelector: {{- toYaml $term.labelSelector | nindent 6 }}
{{- end }}
{{- end }}

{{- define "alloy.pod" -}}
{{- $controller := .Values.controller -}}
{{- $annotations := deepCopy $controller.podAnnotations -}}
{{- if and (not .Values.configReloader.enabled) .Values.alloy.configMap.create -}}
  {{- $_ := set $annotations "checksum/config" (include "alloy.files" . | sha256sum) -}}
{{- end -}}
metadata:
  annotations:
    {{- merge (dict "kubectl.kubernetes.io/default-container" "alloy") $annotations | toYaml | nindent 4 }}
  labels:
    {{- include "alloy.selectorLabels" . | nindent 4 }}
    {{- with $controller.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "alloy.serviceAccount" . }}
  automountServiceAccountToken: {{ include "alloy.hasToken" . }}
  {{- with include "alloy.podSecurityContext" . | fromYaml }}
  securityContext: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.global.image.pullSecrets | default .Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if $controller.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- if $controller.hostPID }}
  hostPID: true
  {{- end }}
  dnsPolicy: {{ and $controller.hostNetwork (eq $controller.dnsPolicy "ClusterFirst") | ternary "ClusterFirstWithHostNet" $controller.dnsPolicy }}
  {{- /* A Service `alloy-...` would make variables ALLOY_..., which are the agent's flags. */}}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $controller.terminationGracePeriodSeconds | default 90 }}
  {{- with .Values.alloy.hostAliases }}
  hostAliases: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.initContainers }}
  initContainers: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - {{ include "alloy.container" . | nindent 6 | trim }}
    {{- with $controller.extraContainers }}{{ toYaml . | nindent 4 }}{{ end }}
  volumes: {{- include "alloy.volumes" . | nindent 4 }}
  {{- with $controller.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "alloy.spread" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
