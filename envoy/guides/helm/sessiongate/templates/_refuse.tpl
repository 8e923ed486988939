{{- /* What the schema cannot say, or would say without the reason. No message repeats a value: it might be the secret. */}}
{{- define "sessiongate.refuse" -}}
{{- $name := include "sessiongate.name" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,52}[a-z0-9])?$" $name) }}
{{- fail (printf "%q is no name for the Services: small letters, digits and -, a letter first, 54 characters at most. Set name, or name the release so." $name) }}
{{- end }}
{{- range $key, $url := dict "config.database.url" (dig "database" "url" "" .Values.config) "migrate.databaseUrl" .Values.migrate.databaseUrl }}
{{- if not (regexMatch "^postgres(ql)?://" $url) }}
{{- fail (printf "%s is no URL that begins with postgres://." $key) }}
{{- end }}
{{- if regexMatch "://[^?]*:[^?]*@|[?&](?i:(ssl)?password)=|[?&][^=&]*%[^=&]*=" $url }}
{{- fail (printf "%s holds a password. Values are no place for secrets: Helm keeps them, and prints them. Put it into a Secret, which the password_file is mounted from." $key) }}
{{- end }}
{{- end }}
{{- if regexMatch "://[^/]*@" (dig "tracing" "otlp_endpoint" "" .Values.config) }}
{{- fail "config.tracing.otlp_endpoint holds a user or a password. Values are no place for secrets: Helm keeps them, and prints them. Let a collector beside the pods add it." }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if regexMatch "^(SESSIONGATE_|PGPASS|OTEL_.*HEADERS$)" .name }}
{{- fail (printf "extraEnv holds %s. A setting belongs in config, where it is checked. A secret belongs in a Secret, which is mounted as a file." .name) }}
{{- end }}
{{- end }}
{{- range $key, $peers := dict "networkPolicy.envoy" .Values.networkPolicy.envoy "networkPolicy.internal" .Values.networkPolicy.internal }}
{{- range $peers }}
{{- if regexMatch "^([^:]*/0*[0-7]|.*:.*/(0*[0-9]|1[0-5]))$" (dig "ipBlock" "cidr" "" .) }}
{{- fail (printf "%s names every address, or nearly. A client that reaches these ports can name any peer address, and guess at API keys." $key) }}
{{- end }}
{{- if or .namespaceSelector .podSelector }}
{{- $chosen := "" }}
{{- range $selector := list .namespaceSelector .podSelector }}
{{- if dig "matchLabels" dict ($selector | default dict) }}{{ $chosen = "by a label" }}{{ end }}
{{- range dig "matchExpressions" list ($selector | default dict) }}
{{- if has .operator (list "In" "Exists") }}{{ $chosen = "by an expression" }}{{ end }}
{{- end }}
{{- end }}
{{- if not $chosen }}
{{- fail (printf "%s names all pods but some. Name those that may call, by matchLabels, In or Exists." $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.istio.enabled (not .Values.istio.gateway.labels) }}
{{- fail "istio.gateway.labels is empty. Without the labels of the gateway's pods, such as istio: ingress, the check would be asked for nowhere, or everywhere." }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas is %d, and autoscaling.maxReplicas is %d." (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- end }}
{{- end }}
