{{- define "sessiongate.name" -}}
{{ .Values.name | default .Release.Name }}
{{- end }}

{{- define "sessiongate.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* The labels of every object: lines of its metadata, or nothing. */}}
{{- define "sessiongate.labels" -}}
{{- with .Values.labels }}
  labels: {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}

{{- define "sessiongate.account" -}}
{{ .Values.serviceAccount.name | default (include "sessiongate.name" .) }}
{{- end }}

{{- /* The number of a listener's port. The schema wants ADDRESS:PORT, on every interface. */}}
{{- define "sessiongate.port" -}}
{{ regexFind "[0-9]+$" (index .root.Values.config.listen .name) }}
{{- end }}

{{- define "sessiongate.authPath" -}}
{{ dig "paths" "auth" "/auth" .Values.config }}
{{- end }}

{{- /* D/2, with D = session.refresh_attempt_max: the time that Envoy gives a request of the auth path. */}}
{{- define "sessiongate.authTimeout" -}}
{{- $d := dig "session" "refresh_attempt_max" "10s" .Values.config | trimSuffix "s" | int -}}
{{- if mod $d 2 }}{{ mul $d 500 }}ms{{ else }}{{ div $d 2 }}s{{ end }}
{{- end }}

{{- /* What speaks on the internal listener: HTTP, or HTTPS where the configuration has a certificate for it. */}}
{{- define "sessiongate.internalTLS" -}}
{{ if dig "tls" "internal_cert_file" "" .Values.config }}true{{ end }}
{{- end }}

{{- define "sessiongate.probe" -}}
httpGet: { path: {{ .path }}, port: internal{{ if include "sessiongate.internalTLS" .root }}, scheme: HTTPS{{ end }} }
{{- end }}

{{- define "sessiongate.podSecurity" -}}
runAsNonRoot: true
{{- with int .Values.userId }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }} # lets it read the secrets below
{{- end }}
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- /* Not a value: the namespace's standard for pods is "restricted", and nothing here needs more. */}}
{{- define "sessiongate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "sessiongate.pull" -}}
{{- with .Values.image.pullSecrets }}
      imagePullSecrets:
      {{- range . }}
        - name: {{ . | quote }}
      {{- end }}
{{- end }}
{{- end }}

{{- define "sessiongate.egress" -}}
- to: {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports: [{ port: 53, protocol: UDP }, { port: 53, protocol: TCP }]
- to: {{- toYaml .Values.networkPolicy.database.to | nindent 4 }}
  ports: [{ port: {{ .Values.networkPolicy.database.port }} }]
{{- end }}
