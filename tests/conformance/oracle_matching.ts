/**
 * What the slow evaluators have in common: the two ends of a connection, and whom selectors, names and prefixes mean.
 * @module
 */

/** A manifest as its JSON value. */
// deno-lint-ignore no-explicit-any
export type Manifest = any;

/** One end of a connection: a pod with labels (`source:key` to value), or an address outside. */
export interface OracleEnd {
  readonly labels: Readonly<Record<string, string>>;
  /** IPv4 address of an end outside the cluster. */
  readonly outside?: string;
  /** Names that DNS gave this address for. */
  readonly names?: readonly string[];
  readonly namedPorts: readonly { name: string; port: number; protocol: string }[];
}

/** A connection as one of its ends sees it. */
export interface OracleQuery {
  readonly subject: OracleEnd;
  readonly remote: OracleEnd;
  readonly direction: "ingress" | "egress";
  readonly protocol: "TCP" | "UDP" | "SCTP" | "ICMP";
  readonly port: number;
  /** A request within the connection; without one it is asked whether there may be a connection at all. */
  readonly request?: { readonly method: string; readonly path: string };
  /** Every pod, for port names that the remote end does not define. */
  readonly everyone: readonly OracleEnd[];
  /** CIDR groups, and services as the engine keeps them; `oracleAllows` finds them among the manifests. */
  readonly groups?: readonly Manifest[];
  readonly services?: readonly Manifest[];
}

/** A star for characters of one label, `**.` at the start for labels. The names of the tests are in lower case, without final dot. */
export function meansName({ matchName, matchPattern }: Manifest, name: string): boolean {
  if (matchName !== undefined) return matchName.toLowerCase() === name;
  if (matchPattern === "*") return true;
  const text = matchPattern.replace(/^\*\*\./, "");
  const labels = text.replaceAll(".", "\\.").replaceAll("*", "[^.]*");
  return new RegExp(`^${text === matchPattern ? "" : "([^.]+\\.)+"}${labels}$`).test(name);
}

/** Labels with and without their source; `any:` is none. */
export function matchesSelector(selector: Manifest, labels: Readonly<Record<string, string>>): boolean {
  const valueOf = (written: string) => {
    const key = written.replace(/^any:/, "");
    if (key.includes(":") || key in labels) return labels[key];
    return Object.entries(labels).find(([label]) => label.slice(label.indexOf(":") + 1) === key)?.[1];
  };
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (valueOf(key) !== value) return false;
  }
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const value = valueOf(key);
    if (operator === "In" && (value === undefined || !values.includes(value))) return false;
    if (operator === "NotIn" && value !== undefined && values.includes(value)) return false;
    if (operator === "Exists" && value === undefined) return false;
    if (operator === "DoesNotExist" && value !== undefined) return false;
  }
  return true;
}

/** Whether an IPv4 address lies in a prefix. */
export function inCidr(cidr: string, address: string): boolean {
  const [base, length = "32"] = cidr.split("/");
  const size = 2 ** (32 - Number(length));
  return Math.floor(ipv4Number(base) / size) === Math.floor(ipv4Number(address) / size);
}

function ipv4Number(text: string): number {
  return text.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);
}
