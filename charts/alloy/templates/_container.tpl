{{/* The agent's container. */}}

{{- define "alloy.args" -}}
{{- $alloy := .Values.alloy -}}
- run
- {{ $alloy.configMap.folder | ternary "/etc/alloy" (printf "/etc/alloy/%s" ($alloy.configMap.key | default "config.alloy")) }}
- --storage.path={{ $alloy.storagePath }}
- --storage.max-size={{ (include "alloy.storage" . | fromYaml).budget }}
- --server.http.listen-addr={{ contains ":" $alloy.listenAddr | ternary (printf "[%s]" $alloy.listenAddr) $alloy.listenAddr }}:{{ $alloy.listenPort }}
{{- if $alloy.clustering.enabled }}
- --cluster.enabled=true
- --cluster.node-name=$({{ eq .Values.controller.type "daemonset" | ternary "K8S_NODE_NAME" "POD_NAME" }})
- --cluster.advertise-address=$(POD_IP)
- --cluster.join-addresses={{ include "alloy.clusterService" . }}
{{- with $alloy.clustering.name }}
- --cluster.name={{ . }}
{{- end }}
{{- if $alloy.clustering.keysSecret.name }}
- --cluster.keys-file=/etc/alloy-cluster/{{ $alloy.clustering.keysSecret.key }}
{{- end }}
{{- end }}
{{- with $alloy.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "alloy.env" -}}
- name: K8S_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- if eq .Values.controller.type "daemonset" }}
- name: HOSTNAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- /* Each agent is its node's own: discovery.kubernetes leaves what is on others to them. */}}
{{- if not .Values.alloy.clustering.enabled }}
- name: ALLOY_DISCOVERY_NODE
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}
{{- end }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- if and .Values.alloy.clustering.enabled .Values.alloy.clustering.zoneLabel }}
- name: ALLOY_CLUSTER_ZONE
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['{{ .Values.alloy.clustering.zoneLabel }}']
{{- end }}
{{- with .Values.alloy.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "alloy.ports" -}}
{{- $alloy := .Values.alloy -}}
{{- if or $alloy.enableHttpServerPort $alloy.clustering.enabled }}
- name: http-metrics
  containerPort: {{ $alloy.listenPort }}
  protocol: TCP
{{- end }}
{{- if $alloy.clustering.enabled }}
- name: gossip
  containerPort: {{ $alloy.listenPort }}
  protocol: UDP
{{- end }}
{{- range $alloy.extraPorts }}
- name: {{ .name }}
  containerPort: {{ .targetPort }}
  protocol: {{ .protocol | default "TCP" }}
  {{- with .hostPort }}
  hostPort: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "alloy.readyProbe" -}}
httpGet:
  path: /-/ready
  port: {{ .Values.alloy.listenPort }}
  scheme: {{ .Values.alloy.listenScheme }}
timeoutSeconds: {{ .Values.alloy.timeoutSeconds }}
{{- end }}

{{- define "alloy.container" -}}
{{- $alloy := .Values.alloy -}}
name: alloy
image: {{ include "alloy.image" . }}
imagePullPolicy: {{ .Values.global.image.pullPolicy | default .Values.image.pullPolicy }}
{{- with $alloy.command }}
command: {{- toYaml . | nindent 2 }}
{{- end }}
args: {{- include "alloy.args" . | nindent 2 }}
env: {{- include "alloy.env" . | nindent 2 }}
{{- with $alloy.envFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "alloy.ports" . | trim }}
ports: {{- . | nindent 2 }}
{{- end }}
{{- if and $alloy.enableHttpServerPort $alloy.startupFailureThreshold }}
startupProbe:
  {{- include "alloy.readyProbe" . | nindent 2 }}
  periodSeconds: 5
  failureThreshold: {{ $alloy.startupFailureThreshold }}
{{- end }}
{{- if $alloy.enableHttpServerPort }}
readinessProbe:
  {{- include "alloy.readyProbe" . | nindent 2 }}
  {{- with $alloy.initialDelaySeconds }}
  initialDelaySeconds: {{ . }}
  {{- end }}
{{- end }}
{{- with $alloy.livenessProbe }}
livenessProbe: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $alloy.lifecycle }}
lifecycle: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $alloy.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $alloy.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts: {{- include "alloy.mounts" . | nindent 2 }}
{{- end }}
