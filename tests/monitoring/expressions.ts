/** What deploy/prometheus and deploy/grafana ask Prometheus for, by metric and label. @module */
import { parse } from "yaml";

const root = new URL("../../deploy/", import.meta.url).pathname;

/** An expression, and where it stands. */
export interface Asked {
  readonly where: string;
  readonly expr: string;
}

/** Every expression of the alerts and of the dashboards. */
export async function expressions(): Promise<Asked[]> {
  const alerts = parse(await Deno.readTextFile(`${root}prometheus/alerts.yml`));
  const found: Asked[] = alerts.groups.flatMap(({ rules }: { rules: { alert: string; expr: string }[] }) =>
    rules.map(({ alert, expr }) => ({ where: alert, expr }))
  );
  for await (const { name } of Deno.readDir(`${root}grafana`)) {
    if (!name.endsWith(".json")) continue;
    for (const { title, targets } of JSON.parse(await Deno.readTextFile(`${root}grafana/${name}`)).panels) {
      for (const { expr } of targets) found.push({ where: `${name}: ${title}`, expr });
    }
  }
  return found;
}

/** Names of Weir's metrics in an expression, those of a histogram without its suffix. */
export function metricsOf(expr: string): string[] {
  const names = expr.match(/\b(hubble|weir)_\w+/g) ?? [];
  return [...new Set(names.map((name) => name.replace(/_seconds_(bucket|sum|count)$/, "_seconds")))]
    // What stands within quotes is a value.
    .filter((name) => !expr.includes(`"${name}"`));
}

/** Labels that an expression groups by, or asks for, less those that Prometheus itself gives. */
export function labelsOf(expr: string): string[] {
  const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names]) => names.split(/,\s*/));
  const asked = [...expr.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g)].map(([, name]) => name);
  return [...new Set([...grouped, ...asked])].filter((name) => !["instance", "job", "le"].includes(name));
}

/** Names and labels of what services expose, from their texts. */
export function exposed(texts: readonly string[]): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const line of texts.flatMap((text) => text.split("\n"))) {
    const declared = /^# TYPE (\w+) /.exec(line)?.[1];
    if (declared !== undefined && !found.has(declared)) found.set(declared, new Set());
    const [, name, labels] = /^(\w+)\{(.*)\} \S+$/.exec(line) ?? [];
    if (name === undefined) continue;
    const metric = name.replace(/_seconds_(bucket|sum|count)$/, "_seconds");
    for (const [, label] of labels.matchAll(/(\w+)="/g)) found.get(metric)?.add(label);
  }
  return found;
}
