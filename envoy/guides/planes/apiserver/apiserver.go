// Package apiserver owns a throw-away Kubernetes API: a real kube-apiserver over a real etcd, without a single node. It promises the answers
// of a cluster to what is applied, its refusals above all, and that both programs end with the process that started them.
package apiserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sessiongate/sessiongate/envoy/guides/planes/tool"
)

const (
	// startTimeout is for a loaded machine: 20 s are usual on an idle one.
	startTimeout = 3 * time.Minute
	// interval is the pause between two looks at something that takes its time.
	interval = 100 * time.Millisecond
	// attempts at free ports: another program may take one between our look and the start.
	attempts = 3
)

// Server is a running API server.
type Server struct {
	// Kubeconfig is a file that gives clients (kubectl, helm, control planes) all rights.
	Kubeconfig string

	url, dir, token string
	client          *http.Client
	programs        []*program

	mu        sync.Mutex
	resources map[string][]resource // by group and version; see discover
}

// resource is a kind, as the server names it.
type resource struct {
	Name       string `json:"name"`
	Kind       string `json:"kind"`
	Namespaced bool   `json:"namespaced"`
}

// Start starts both programs, and builds them at the first call on a machine (see package tool). It returns once the API is ready. Stop ends them.
// progress tells of what takes minutes.
func Start(ctx context.Context, progress io.Writer) (*Server, error) {
	etcd, err := tool.Etcd.Binary(ctx, progress)
	if err != nil {
		return nil, err
	}
	kube, err := tool.KubeAPIServer.Binary(ctx, progress)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		s, err := start(ctx, etcd, kube)
		if err == nil || attempt == attempts || ctx.Err() != nil {
			return s, err
		}
		_, _ = fmt.Fprintf(progress, "again: %v\n", err)
	}
}

func start(ctx context.Context, etcd, kube string) (_ *Server, err error) {
	s := &Server{resources: map[string][]resource{}}
	if s.dir, err = os.MkdirTemp("", "sessiongate-kubernetes-"); err != nil {
		return nil, fmt.Errorf("starting Kubernetes' API: %w", err)
	}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	store, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	peer, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	secure, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(secure)
	if err != nil {
		return nil, fmt.Errorf("reading address: %w", err)
	}
	if err := s.credentials(secure); err != nil {
		return nil, err
	}
	if err := s.run(etcd, "--data-dir", s.file("etcd"), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", "http://"+store, "--advertise-client-urls", "http://"+store,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer); err != nil {
		return nil, err
	}
	if err := s.run(kube, "--etcd-servers", "http://"+store, "--bind-address", host, "--advertise-address", host, "--secure-port", port,
		"--tls-cert-file", s.file("tls.crt"), "--tls-private-key-file", s.file("tls.key"), "--cert-dir", s.file("certificates"),
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", s.file("tls.key"),
		"--service-account-signing-key-file", s.file("tls.key"), "--token-auth-file", s.file("tokens"),
		"--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16",
		"--disable-admission-plugins", "ServiceAccount", // no controller makes the accounts
		"--endpoint-reconciler-type", "none"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = await(ctx, func() error {
		if err := s.ended(); err != nil {
			return final{err}
		}
		if _, err := s.do(ctx, http.MethodGet, "/readyz", "", nil); err != nil {
			return err
		}
		// Ready is not all: the namespace default is made a moment later.
		_, err := s.do(ctx, http.MethodGet, "/api/v1/namespaces/default", "", nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("starting Kubernetes' API: %w\n%s", err, s.logs())
	}
	return s, nil
}

// Stop ends both programs and removes what they wrote.
func (s *Server) Stop() {
	for _, p := range slices.Backward(s.programs) {
		p.stop()
	}
	_ = os.RemoveAll(s.dir)
}

// Apply applies every document of some manifests, in their order, as a server-side apply does with strict validation: unknown fields are refused, and
// not dropped in silence. With dryRun the server judges all and keeps nothing. It waits until a definition of new kinds is in force. All errors
// are reported, each with its object.
func (s *Server) Apply(ctx context.Context, documents []map[string]any, dryRun bool) error {
	var faults []error
	for _, document := range documents {
		if err := s.apply(ctx, document, dryRun); err != nil {
			metadata, _ := document["metadata"].(map[string]any)
			faults = append(faults, fmt.Errorf("%v %v: %w", document["kind"], metadata["name"], err))
		}
	}
	return errors.Join(faults...)
}

func (s *Server) apply(ctx context.Context, document map[string]any, dryRun bool) error {
	path, err := s.path(ctx, document)
	if err != nil {
		return err
	}
	query := url.Values{"fieldManager": {"sessiongate"}, "fieldValidation": {"Strict"}, "force": {"true"}}
	if dryRun {
		query.Set("dryRun", "All")
	}
	body, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("writing object: %w", err)
	}
	if _, err := s.do(ctx, http.MethodPatch, path+"?"+query.Encode(), "application/apply-patch+yaml", body); err != nil {
		return err
	}
	if document["kind"] != "CustomResourceDefinition" || dryRun {
		return nil
	}
	return await(ctx, func() error {
		answer, err := s.do(ctx, http.MethodGet, path, "", nil)
		if err != nil {
			return err
		}
		var definition struct {
			Status struct {
				Conditions []struct {
					Type   string `json:"type"`
					Status string `json:"status"`
				} `json:"conditions"`
			} `json:"status"`
		}
		if err := json.Unmarshal(answer, &definition); err != nil {
			return final{err}
		}
		for _, c := range definition.Status.Conditions {
			if c.Type == "Established" && c.Status == "True" {
				return nil
			}
		}
		return errors.New("the definition is not in force yet")
	})
}

// Get reads an object as the server has it: the status of what was applied, for one.
func (s *Server) Get(ctx context.Context, document map[string]any) (map[string]any, error) {
	path, err := s.path(ctx, document)
	if err != nil {
		return nil, err
	}
	answer, err := s.do(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(answer, &object); err != nil {
		return nil, fmt.Errorf("reading object: %w", err)
	}
	return object, nil
}

// path is where the API has an object.
func (s *Server) path(ctx context.Context, document map[string]any) (string, error) {
	version, _ := document["apiVersion"].(string)
	kind, _ := document["kind"].(string)
	metadata, _ := document["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	namespace, _ := metadata["namespace"].(string)
	root := "/apis/" + version
	if !strings.Contains(version, "/") {
		root = "/api/" + version
	}
	var found *resource
	err := await(ctx, func() error { // a new definition is in force before it is found
		all, err := s.discover(ctx, root)
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.Kind == kind && !strings.Contains(r.Name, "/") {
				found = &r
				return nil
			}
		}
		return final{fmt.Errorf("%s has no kind %s", version, kind)}
	})
	if err != nil {
		return "", err
	}
	if found.Namespaced {
		if namespace == "" {
			namespace = "default"
		}
		root += "/namespaces/" + url.PathEscape(namespace)
	}
	return root + "/" + found.Name + "/" + url.PathEscape(name), nil
}

// discover are the kinds of a group and version. They are asked for once.
func (s *Server) discover(ctx context.Context, root string) ([]resource, error) {
	s.mu.Lock()
	known, ok := s.resources[root]
	s.mu.Unlock()
	if ok {
		return known, nil
	}
	answer, err := s.do(ctx, http.MethodGet, root, "", nil)
	if err != nil {
		return nil, err
	}
	var list struct {
		Resources []resource `json:"resources"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, final{fmt.Errorf("reading kinds: %w", err)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resources[root] = list.Resources
	return list.Resources, nil
}

func (s *Server) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking Kubernetes' API: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+s.token)
	request.Header.Set("Accept", "application/json")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking Kubernetes' API: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("asking Kubernetes' API: %w", err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		var status struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(answer, &status) != nil || status.Message == "" {
			status.Message = string(answer)
		}
		return nil, fmt.Errorf("%d: %s", response.StatusCode, status.Message)
	}
	return answer, nil
}

// credentials writes a certificate of the server, which signs service accounts' tokens, too, and a token that may do all.
func (s *Server) credentials(address string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "throw-away Kubernetes"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	body, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("making certificate: %w", err)
	}
	sealed, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("making certificate: %w", err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: body})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	s.url = "https://" + address
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	s.token = hex.EncodeToString(secret[:])
	s.Kubeconfig = s.file("kubeconfig")
	config, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "it",
		"clusters": []any{map[string]any{"name": "it", "cluster": map[string]any{
			"server": s.url, "certificate-authority-data": base64.StdEncoding.EncodeToString(certificate),
		}}},
		"users":    []any{map[string]any{"name": "it", "user": map[string]any{"token": s.token}}},
		"contexts": []any{map[string]any{"name": "it", "context": map[string]any{"cluster": "it", "user": "it"}}},
	})
	if err != nil {
		return fmt.Errorf("writing kubeconfig: %w", err)
	}
	for name, text := range map[string][]byte{
		"tls.crt": certificate, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sealed}),
		"tokens": []byte(s.token + ",it,it,system:masters\n"), "kubeconfig": config,
	} {
		if err := os.WriteFile(s.file(name), text, 0o600); err != nil {
			return fmt.Errorf("writing credentials: %w", err)
		}
	}
	return nil
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// program is a child. Its log is a file: it is read when a start fails.
type program struct {
	command *exec.Cmd
	exited  chan struct{}
	err     error
	log     string
}

func (s *Server) run(binary string, arguments ...string) error {
	p := &program{command: exec.Command(binary, arguments...), exited: make(chan struct{}), log: s.file(filepath.Base(binary) + ".log")} //nolint:noctx // a program of ours; Stop ends it
	log, err := os.Create(p.log)
	if err != nil {
		return fmt.Errorf("starting %s: %w", filepath.Base(binary), err)
	}
	defer func() { _ = log.Close() }()
	p.command.Stdout, p.command.Stderr = log, log
	tool.EndWithParent(p.command)
	if err := p.command.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", filepath.Base(binary), err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.exited)
	}()
	s.programs = append(s.programs, p)
	return nil
}

// stop kills: there is nothing to keep.
func (p *program) stop() {
	_ = p.command.Process.Signal(syscall.SIGKILL)
	<-p.exited
}

// ended is an error where a program has ended by itself.
func (s *Server) ended() error {
	for _, p := range s.programs {
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended: %w", filepath.Base(p.command.Path), p.err)
		default:
		}
	}
	return nil
}

// logs are the ends of both logs.
func (s *Server) logs() string {
	const most = 4000
	var all strings.Builder
	for _, p := range s.programs {
		text, _ := os.ReadFile(p.log)
		_, _ = fmt.Fprintf(&all, "--- %s\n%s", filepath.Base(p.log), text[max(0, len(text)-most):])
	}
	return all.String()
}

// FreeAddress is an address of this machine that was free a moment ago. Neither program can be given port 0 and asked what it got.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String(), nil
}

// final is an error that does not pass by waiting.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// await calls look until it has no error, or a final one, or the context ends.
func await(ctx context.Context, look func() error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := look()
		var stop final
		if err == nil || errors.As(err, &stop) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}
