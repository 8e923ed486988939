# syntax=docker/dockerfile:1
# Two images from one build: `sessiongate` (the default) and the demo's `demoapp`. For several
# platforms, with the version in it, and the same bytes for one commit:
#
#   docker buildx build --platform linux/amd64,linux/arm64 \
#     --build-arg VERSION=$(git describe --tags --dirty) --build-arg COMMIT=$(git rev-parse HEAD) \
#     --build-arg DATE=$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ) \
#     --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) \
#     --output type=image,rewrite-timestamp=true,push=true --tag … .
#
# A release names the images below by the digest that its tag has then (golang:1.26@sha256:…):
# a tag may be moved, a digest may not.
ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=gcr.io/distroless/static:nonroot

# Go compiles for another platform as fast as for its own: nothing is emulated.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH
# .git is not here. What is not given stays "unknown", and the version "(devel)".
ARG VERSION="" COMMIT="" DATE=""
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -buildid= -X main.stampedVersion=$VERSION -X main.stampedRevision=$COMMIT -X main.stampedDate=$DATE" \
    -o /out/ ./cmd/sessiongate ./cmd/demoapp
# Named volumes take the owner of the folder they are mounted on.
RUN mkdir -p /secrets/key /secrets/api /secrets/database

FROM ${BASE_IMAGE} AS base
ARG VERSION="" COMMIT="" DATE=""
LABEL org.opencontainers.image.source="https://github.com/sessiongate/sessiongate" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.created="$DATE"

FROM base AS demoapp
LABEL org.opencontainers.image.title="sessiongate-demoapp"
COPY --from=build /out/demoapp /demoapp
ENTRYPOINT ["/demoapp"]

FROM base AS sessiongate
LABEL org.opencontainers.image.title="sessiongate" \
      org.opencontainers.image.description="Sessions for the services behind Envoy"
COPY --from=build --chown=65532:65532 /secrets /secrets
COPY --from=build /out/sessiongate /sessiongate
ENTRYPOINT ["/sessiongate"]
CMD ["serve"]
