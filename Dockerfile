# syntax=docker/dockerfile:1
# Two images from one build: `sessiongate` (the default) and the demo's `demoapp`.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /out/ ./cmd/sessiongate ./cmd/demoapp
# Named volumes take the owner of the folder they are mounted on.
RUN mkdir -p /secrets/key /secrets/api /secrets/database

FROM gcr.io/distroless/static:nonroot AS demoapp
COPY --from=build /out/demoapp /demoapp
ENTRYPOINT ["/demoapp"]

FROM gcr.io/distroless/static:nonroot AS sessiongate
COPY --from=build --chown=65532:65532 /secrets /secrets
COPY --from=build /out/sessiongate /sessiongate
ENTRYPOINT ["/sessiongate"]
CMD ["serve"]
