{{- define "natsmedic.labels" -}}
app.kubernetes.io/name: natsmedic
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "natsmedic.selector" -}}
app.kubernetes.io/name: natsmedic
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "natsmedic.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}
{{- /* "true" on SQLite. A URL may be read from a Secret, and then it is another database's. */ -}}
{{- define "natsmedic.sqlite" -}}
{{- $url := .Values.settings.database.url }}{{ if kindIs "string" $url }}{{ if hasPrefix "sqlite:" $url }}true{{ end }}{{ end }}
{{- end }}
{{- define "natsmedic.check" -}}
{{- if and .Values.applier.enabled (ne .Values.settings.mode "approve") }}
{{- fail "applier.enabled is true and settings.mode is not `approve`: credentials that can change something would lie where nothing is to be changed. Set settings.mode: approve, or applier.enabled: false." }}
{{- end }}
{{- if and .Values.applier.enabled .Values.applier.admissionPolicy (semverCompare "<1.30-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "Kubernetes %s has no ValidatingAdmissionPolicy (1.30 or newer has). Set applier.admissionPolicy: false to go without the API server's own check of what the applier changes." .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if and (include "natsmedic.sqlite" .) (gt (int .Values.replicas) 1) }}
{{- fail (printf "replicas is %d and settings.database.url is SQLite, which one process holds. Set replicas: 1, or use PostgreSQL." (int .Values.replicas)) }}
{{- end }}
{{- if not (include "natsmedic.sqlite" .) }}{{- if .Values.persistence.existingClaim }}
{{- fail "persistence.existingClaim is for SQLite, and settings.database.url is another database." }}
{{- end }}{{- end }}
{{- end }}
