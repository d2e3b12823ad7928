{{/* The name of all resources: the release's. */}}
{{- define "gateway.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "gateway.protocol" -}}
{{ ternary "https" "http" (hasKey .Values.config.server "tls") }}
{{- end }}

{{/* A duration of gateway.yaml (500ms, 12s, 5m, 1h) in whole seconds, rounded up. Helm takes 010 for 8. */}}
{{- define "gateway.seconds" -}}
{{- $number := regexFind "[1-9][0-9]*" . | int -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- if eq $unit "ms" }}{{ div (add $number 999) 1000 }}
{{- else }}{{ mul $number (get (dict "s" 1 "m" 60 "h" 3600) $unit) }}
{{- end }}
{{- end }}
