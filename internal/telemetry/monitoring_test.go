package telemetry

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.yaml.in/yaml/v3"
)

// The files of deploy/prometheus and deploy/grafana are held to each other and to the binary. That their expressions can be
// parsed, promtool says (deploy/tools/check.sh monitoring).

type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func rulesOf(t *testing.T) (all []rule) {
	t.Helper()
	for _, file := range glob(t, "prometheus/rules/*.yml") {
		var f struct{ Groups []struct{ Rules []rule } }
		parse(t, file, &f)
		for _, g := range f.Groups {
			all = append(all, g.Rules...)
		}
	}
	return all
}

// expressions are those of the dashboards that Prometheus answers, by where they stand.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	type panel struct {
		Title, Description, Type string
		Datasource               struct{ UID string }
		Targets                  []struct{ Expr string }
	}
	var sources struct{ Datasources []struct{ UID string } }
	for _, file := range glob(t, "grafana/provisioning/datasources/*.yml") {
		parse(t, file, &sources)
	}
	out := map[string]string{}
	uids := map[string]bool{}
	for _, file := range glob(t, "grafana/dashboards/*.json") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			UID    string
			Panels []panel
		}
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if d.UID == "" || uids[d.UID] {
			t.Errorf("%s: its uid %q is no name of its own", file, d.UID)
		}
		uids[d.UID] = true
		for _, p := range d.Panels {
			where := d.UID + ": " + p.Title
			if p.Type == "row" {
				continue
			}
			if p.Description == "" || len(p.Targets) == 0 {
				t.Errorf("%s: a panel says what it shows, and shows something", where)
			}
			if !slices.ContainsFunc(sources.Datasources, func(s struct{ UID string }) bool { return s.UID == p.Datasource.UID }) {
				t.Errorf("%s: there is no data source %q", where, p.Datasource.UID)
			}
			if p.Datasource.UID != "prometheus" {
				continue
			}
			for i, target := range p.Targets {
				out[where+" "+string(rune('A'+i))] = target.Expr
			}
		}
	}
	return out
}

func TestRulesAndDashboardsUseMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	there := exported(t)
	// Theirs, by their own documentation.
	for _, name := range []string{"up", "ALERTS", "alertmanager_notifications_failed_total", "prometheus_rule_evaluation_failures_total",
		"otelcol_exporter_queue_size"} {
		there[name] = nil
	}
	all := expressions(t)
	if len(all) < 40 {
		t.Fatalf("%d expressions in the dashboards: they were not found", len(all))
	}
	for _, r := range rulesOf(t) {
		if r.Record != "" {
			there[r.Record] = []string{"kind"}
		}
		all[r.Alert+r.Record+" "+r.Labels["kind"]] = r.Expr
	}
	used := map[string]bool{}
	for where, expr := range all {
		for _, s := range selectors(expr) {
			used[s.metric] = true
			labels, known := there[s.metric]
			if !known {
				t.Errorf("%s: there is no metric %s", where, s.metric)
			}
			for _, l := range s.labels {
				if labels != nil && !slices.Contains(labels, l) && !slices.Contains([]string{"job", "instance", "node", "role"}, l) {
					t.Errorf("%s: %s has no label %s", where, s.metric, l)
				}
			}
		}
	}
	// What nobody looks at is not worth its place on the wire.
	for name := range there {
		if strings.HasPrefix(name, "salon_") && !used[name] && !slices.ContainsFunc([]string{"_bucket", "_sum", "_count"}, func(s string) bool { return strings.HasSuffix(name, s) }) &&
			name != "salon_front_seconds" { // for those who look at one address
			if _, histogram := there[name+"_bucket"]; !histogram {
				t.Errorf("no rule and no dashboard uses %s", name)
			}
		}
	}
}

func TestEachRuleHasATestThatSeesItBothWays(t *testing.T) {
	t.Parallel()
	fires, rests, computed := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, file := range glob(t, "prometheus/tests/*.yml") {
		var f struct {
			Tests []struct {
				Alerts []struct {
					Name string `yaml:"alertname"`
					Exp  []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
				Exprs []struct{ Expr string } `yaml:"promql_expr_test"`
			}
		}
		parse(t, file, &f)
		for _, test := range f.Tests {
			for _, a := range test.Alerts {
				fires[a.Name], rests[a.Name] = fires[a.Name] || len(a.Exp) > 0, rests[a.Name] || len(a.Exp) == 0
			}
			for _, e := range test.Exprs {
				for _, s := range selectors(e.Expr) {
					computed[s.metric] = true
				}
			}
		}
	}
	for _, r := range rulesOf(t) {
		switch {
		case r.Record != "" && !computed[r.Record]:
			t.Errorf("no test computes %s", r.Record)
		case r.Alert != "" && !fires[r.Alert]:
			t.Errorf("no test sees %s fire", r.Alert)
		case r.Alert != "" && !rests[r.Alert] && r.Alert != "Deadman": // it always fires
			t.Errorf("no test sees %s at rest", r.Alert)
		}
	}
}

func TestEachAlertSaysHowBadItIsAndWhatToDo(t *testing.T) {
	t.Parallel()
	text, anchors := anchorsOf(t, "../../docs/runbook.md")
	for _, m := range regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(text, -1) {
		if !anchors[m[1]] {
			t.Errorf("the runbook has no %q, to which it leads itself", m[1])
		}
	}
	for _, r := range rulesOf(t) {
		if r.Alert == "" {
			continue
		}
		if s := r.Labels["severity"]; !slices.Contains([]string{"page", "ticket", "none"}, s) {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" || !strings.Contains(r.Annotations["description"], "$value") {
			t.Errorf("%s: a summary, and a description with the value, are needed: %v", r.Alert, r.Annotations)
		}
		page, anchor, _ := strings.Cut(r.Annotations["runbook"], "#")
		if page != "docs/runbook.md" || anchor == "" || !anchors[anchor] {
			t.Errorf("%s: the runbook has no %q", r.Alert, r.Annotations["runbook"])
		}
	}
}

// anchorsOf are the places of a Markdown page that a link can lead to: its headings, as GitHub names them, and what it names itself.
func anchorsOf(t *testing.T, page string) (text string, anchors map[string]bool) {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	anchors = map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if heading, found := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); found && strings.HasPrefix(line, "#") {
			slug := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			anchors[strings.ReplaceAll(slug, " ", "-")] = true
		}
		for _, m := range regexp.MustCompile(`<a (?:id|name)="([^"]+)"`).FindAllStringSubmatch(line, -1) {
			anchors[m[1]] = true
		}
	}
	return string(b), anchors
}

func TestSelectorsOfAnExpression(t *testing.T) {
	t.Parallel()
	got := selectors(`sum by (node, le) (rate(a_b{x=~"up|down", y="}"}[5m])) / on (z) group_left (q) (c:d:rate5m > 14.4 * 1e9) unless max_over_time(up[1d]) or vector(0)`)
	want := []selector{{"a_b", []string{"x", "y"}}, {"c:d:rate5m", nil}, {"up", nil}}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i].metric != want[i].metric || !slices.Equal(got[i].labels, want[i].labels) {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
}

type selector struct {
	metric string
	labels []string // that are matched
}

var (
	quoted    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	grouping  = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	duration  = regexp.MustCompile(`\[[^\]]*\]`)
	name      = regexp.MustCompile(`\b([a-zA-Z_][\w:]*)\s*(\(|\{[^}]*\})?`)
	labelName = regexp.MustCompile(`([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)`)
	keywords  = []string{"and", "or", "unless", "bool", "offset", "inf", "nan", "by", "on"}
)

// selectors finds what an expression selects: every name that is neither a function's nor a keyword.
func selectors(expr string) (out []selector) {
	expr = duration.ReplaceAllString(grouping.ReplaceAllString(quoted.ReplaceAllString(expr, `""`), " "), " ")
	for _, m := range name.FindAllStringSubmatch(expr, -1) {
		if m[2] == "(" || slices.Contains(keywords, strings.ToLower(m[1])) || slices.Contains([]string{"sum", "min", "max", "count", "avg"}, m[1]) {
			continue
		}
		s := selector{metric: m[1]}
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			s.labels = append(s.labels, l[1])
		}
		out = append(out, s)
	}
	return out
}

// exported are the metrics that the binary can show, with their labels.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	r := recorder{}
	m := newMetrics(r, "v1")
	m.Live(func() LiveNumbers { return LiveNumbers{} })
	m.Pool("reads", func() (int, int, int64) { return 0, 0, 0 })
	m.Disk(func() (int64, int64) { return 0, 0 })
	r.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return maps.Clone(r)
}

// recorder is a registry that only notes what would be registered.
type recorder map[string][]string

var described = regexp.MustCompile(`fqName: "([^"]+)".*constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

func (r recorder) Register(c prometheus.Collector) error {
	all := make(chan *prometheus.Desc, 100)
	c.Describe(all)
	close(all)
	for d := range all {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			panic("another form of " + d.String())
		}
		labels := []string{"le"}
		for l := range strings.SplitSeq(m[2]+","+m[3], ",") {
			l, _, _ = strings.Cut(l, "=")
			labels = append(labels, l)
		}
		r[m[1]] = labels
		switch c.(type) {
		case *prometheus.HistogramVec, prometheus.Histogram:
			r[m[1]+"_bucket"], r[m[1]+"_sum"], r[m[1]+"_count"] = labels, labels, labels
		}
	}
	return nil
}

func (r recorder) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		_ = r.Register(c) // never fails
	}
}

func (r recorder) Unregister(prometheus.Collector) bool { return false }

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../../deploy", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files (%v)", pattern, err)
	}
	return files
}

func parse(t *testing.T, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
