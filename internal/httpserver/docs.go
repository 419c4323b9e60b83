package httpserver

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/labstack/echo/v4"
)

// Document is the OpenAPI 3.1 document of what is registered.
func (s *Server) Document() ([]byte, error) {
	b, err := json.MarshalIndent(s.api.OpenAPI(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("openapi document: %w", err)
	}
	return append(b, '\n'), nil
}

// ServeDocument serves a document of what the server does besides its operations. It is made at the first call, and is
// told the server's version.
func (s *Server) ServeDocument(path, contentType string, document func(version string) any) {
	made := sync.OnceValues(func() ([]byte, error) { return json.MarshalIndent(document(s.cfg.Version), "", "  ") })
	s.echo.GET(path, func(c echo.Context) error {
		b, err := made()
		if err != nil {
			return err
		}
		return c.Blob(http.StatusOK, contentType, b)
	})
}

// serveDocument serves the document and a page that lists it. The page needs no other host and no script. Both are
// made once, at the first call, when all operations are registered.
func (s *Server) serveDocument() {
	document := sync.OnceValues(s.Document)
	page := sync.OnceValues(func() ([]byte, error) { return renderDocs(s.api.OpenAPI()) })
	style := sha256.Sum256([]byte(docsStyle))
	policy := "default-src 'none'; frame-ancestors 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(style[:]) + "'"
	s.echo.GET("/openapi.json", func(c echo.Context) error {
		b, err := document()
		if err != nil {
			return err
		}
		return c.Blob(http.StatusOK, "application/openapi+json", b)
	})
	s.echo.GET("/docs", func(c echo.Context) error {
		b, err := page()
		if err != nil {
			return err
		}
		c.Response().Header().Set("Content-Security-Policy", policy)
		return c.HTMLBlob(http.StatusOK, b)
	})
}

type docsOperation struct {
	Method, Path, ID, Summary, Who string
	Parameters                     []*huma.Param
	Body                           string
}

func renderDocs(doc *huma.OpenAPI) ([]byte, error) {
	var ops []docsOperation
	for path, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete, item.Patch} {
			if op == nil {
				continue
			}
			who, _ := op.Metadata[whoKey].([]string)
			o := docsOperation{Method: op.Method, Path: path, ID: op.OperationID, Summary: op.Summary, Parameters: op.Parameters, Who: strings.Join(who, ", ")}
			if len(who) == 0 {
				o.Who = "anyone"
			} else if slices.Contains(who, "*") {
				o.Who = "anyone signed in"
			}
			if op.RequestBody != nil {
				for _, media := range op.RequestBody.Content {
					b, err := json.MarshalIndent(resolve(doc, media.Schema), "", "  ")
					if err != nil {
						return nil, fmt.Errorf("docs of %s: %w", op.OperationID, err)
					}
					o.Body = string(b)
				}
			}
			ops = append(ops, o)
		}
	}
	slices.SortFunc(ops, func(a, b docsOperation) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method))
	})
	var b bytes.Buffer
	err := docsPage.Execute(&b, map[string]any{"Title": doc.Info.Title, "Version": doc.Info.Version, "Operations": ops, "Style": template.CSS(docsStyle)}) //nolint:gosec // a constant of ours
	if err != nil {
		return nil, fmt.Errorf("docs page: %w", err)
	}
	return b.Bytes(), nil
}

func resolve(doc *huma.OpenAPI, schema *huma.Schema) *huma.Schema {
	if schema != nil && schema.Ref != "" {
		return doc.Components.Schemas.SchemaFromRef(schema.Ref)
	}
	return schema
}

const docsStyle = `body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
details{border:1px solid #ddd;border-radius:6px;margin:.4rem 0;padding:.4rem .8rem}summary{cursor:pointer}
code,pre{font:13px/1.4 ui-monospace,monospace}pre{background:#f6f6f6;padding:.6rem;overflow:auto}.m{font-weight:700}.w{color:#777}`

var docsPage = template.Must(template.New("docs").Parse(`<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{{.Title}}</title><style>{{.Style}}</style></head>
<body><h1>{{.Title}} <small>{{.Version}}</small></h1><p>Everything here is in <a href="/openapi.json">openapi.json</a>.</p>
{{range .Operations}}<details id="{{.ID}}"><summary><span class="m">{{.Method}}</span> <code>{{.Path}}</code> {{.Summary}} <span class="w">({{.Who}})</span></summary>
{{if .Parameters}}<ul>{{range .Parameters}}<li><code>{{.Name}}</code> in {{.In}}{{if .Required}}, required{{end}}{{if .Description}}: {{.Description}}{{end}}</li>{{end}}</ul>{{end}}
{{if .Body}}<pre>{{.Body}}</pre>{{end}}</details>
{{end}}</body></html>`))
