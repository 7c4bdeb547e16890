{{/* Names, labels, the image. */}}

{{- define "alloy.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "alloy.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end }}

{{- /* The headless Service: peers are found by it, pods of a StatefulSet have names in it. */}}
{{- define "alloy.clusterService" -}}
{{- include "alloy.fullname" . }}-cluster
{{- end }}

{{- define "alloy.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "alloy.fullname" .) "default") -}}
{{- end }}

{{- define "alloy.configMap" -}}
{{- .Values.alloy.configMap.name | default (include "alloy.fullname" .) -}}
{{- end }}

{{- define "alloy.kind" -}}
{{- get (dict "statefulset" "StatefulSet" "deployment" "Deployment" "daemonset" "DaemonSet") .Values.controller.type -}}
{{- end }}

{{- /* What never changes: selectors and claims of a running release can't. */}}
{{- define "alloy.selectorLabels" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "alloy.labels" -}}
{{ include "alloy.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The metadata of an object: (list $ "NAME" labels annotations). */}}
{{- define "alloy.metadata" -}}
{{- $root := index . 0 -}}
metadata:
  name: {{ index . 1 }}
  namespace: {{ include "alloy.namespace" $root }}
  labels:
    {{- include "alloy.labels" $root | nindent 4 }}
    {{- with index . 2 }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with index . 3 }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "alloy.image" -}}
{{- with .Values.global.image.registry | default .Values.image.registry }}{{ . }}/{{ end -}}
{{- .Values.image.repository }}
{{- with .Values.image.digest }}@sha256:{{ trimPrefix "sha256:" . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end }}

{{- define "alloy.hasService" -}}
{{- if and .Values.service.enabled (or .Values.alloy.enableHttpServerPort .Values.alloy.extraPorts) }}true{{ end -}}
{{- end }}

{{- define "alloy.autoscaling" -}}
{{- mergeOverwrite (deepCopy .Values.controller.autoscaling.horizontal) (omit .Values.controller.autoscaling "horizontal" "vertical") | toYaml -}}
{{- end }}

{{- /* "true" if the number of pods is another's business. */}}
{{- define "alloy.isScaled" -}}
{{- $horizontal := include "alloy.autoscaling" . | fromYaml -}}
{{- if or $horizontal.enabled $horizontal.externalHPA }}true{{ end -}}
{{- end }}
