{{/* Where logs and positions are, and what they may take. */}}

{{- define "alloy.readsNodeLogs" -}}
{{- if or .Values.alloy.mounts.varlog .Values.alloy.mounts.dockercontainers }}true{{ end -}}
{{- end }}

{{- /* As YAML: `claim`, `own`, `hostPath` or `emptyDir`, whichever is at storagePath, and `budget`. */}}
{{- define "alloy.storage" -}}
{{- $path := .Values.alloy.storagePath | clean -}}
{{- $mounted := dict -}}
{{- $volume := "" -}}
{{- range .Values.alloy.mounts.extra -}}
  {{- $_ := set $mounted .name true -}}
  {{- if eq (clean .mountPath) $path }}{{ $volume = .name }}{{ end -}}
{{- end -}}
{{- $found := dict -}}
{{- $claims := list -}}
{{- range .Values.controller.volumeClaimTemplates -}}
  {{- if eq .metadata.name $volume }}{{ $_ := set $found "claim" "" }}{{ end -}}
  {{- if not (hasKey $mounted .metadata.name) }}{{ $claims = append $claims .metadata.name }}{{ end -}}
{{- end -}}
{{- range .Values.controller.volumes.extra -}}
  {{- if and (eq .name $volume) (or (hasKey . "persistentVolumeClaim") (hasKey . "ephemeral")) }}{{ $_ := set $found "claim" "" }}{{ end -}}
{{- end -}}
{{- if $volume -}}
  {{- $_ := set $found "own" $volume -}}
{{- else if $claims -}}
  {{- $_ := set $found "claim" (first $claims) -}}
  {{- $claims = rest $claims -}}
{{- else if .Values.alloy.storage.hostPath -}}
  {{- $_ := set $found "hostPath" .Values.alloy.storage.hostPath -}}
{{- else if and (eq .Values.controller.type "daemonset") (include "alloy.readsNodeLogs" .) -}}
  {{- $_ := set $found "hostPath" (printf "/var/lib/alloy/%s-%s" (include "alloy.namespace" .) (include "alloy.fullname" .)) -}}
{{- else -}}
  {{- $_ := set $found "emptyDir" .Values.alloy.storage.emptyDirSizeLimit -}}
{{- end -}}
{{- with $claims }}{{ fail (printf "the claim %s of controller.volumeClaimTemplates is mounted nowhere: add it to alloy.mounts.extra, or leave it out" (first .)) }}{{ end -}}
{{- $_ := set $found "budget" (.Values.alloy.storage.maxSize | default (hasKey $found "claim" | ternary "80%" "4GiB")) -}}
{{- toYaml $found -}}
{{- end }}

{{- define "alloy.mounts" -}}
{{- $storage := include "alloy.storage" . | fromYaml -}}
- name: config
  mountPath: /etc/alloy
  readOnly: true
{{- if not (hasKey $storage "own") }}
- name: {{ $storage.claim | default "storage" }}
  mountPath: {{ .Values.alloy.storagePath }}
{{- end }}
- name: tmp
  mountPath: /tmp
{{- if .Values.alloy.clustering.keysSecret.name }}
- name: cluster-keys
  mountPath: /etc/alloy-cluster
  readOnly: true
{{- end }}
{{- if .Values.alloy.mounts.varlog }}
- name: varlog
  mountPath: /var/log
  readOnly: true
{{- end }}
{{- if .Values.alloy.mounts.dockercontainers }}
- name: dockercontainers
  mountPath: /var/lib/docker/containers
  readOnly: true
{{- end }}
{{- with .Values.alloy.mounts.extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "alloy.volumes" -}}
{{- $storage := include "alloy.storage" . | fromYaml -}}
- name: config
  configMap:
    name: {{ include "alloy.configMap" . }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if hasKey $storage "hostPath" }}
- name: storage
  hostPath:
    path: {{ $storage.hostPath }}
    type: DirectoryOrCreate
{{- else if hasKey $storage "emptyDir" }}
- name: storage
  emptyDir:
    sizeLimit: {{ $storage.emptyDir }}
{{- end }}
{{- with .Values.alloy.clustering.keysSecret.name }}
- name: cluster-keys
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- if .Values.alloy.mounts.varlog }}
- name: varlog
  hostPath:
    path: /var/log
{{- end }}
{{- if .Values.alloy.mounts.dockercontainers }}
- name: dockercontainers
  hostPath:
    path: /var/lib/docker/containers
{{- end }}
{{- with .Values.controller.volumes.extra }}
{{ toYaml . }}
{{- end }}
{{- end }}
