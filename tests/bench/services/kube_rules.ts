/**
 * Rules of the shape that kube-proxy writes, for iptables and for nftables: the same services, the same backends. Service
 * `number` is `10.96.x.y:80`; its rules come in the order of the numbers, so the last is the probed one.
 * @module
 */

/** One service and its backends, "address:port". */
export interface KubeService {
  number: number;
  backends: string[];
}

/** The virtual address of a service. */
export function addressOf(number: number): string {
  return `10.96.${number >> 8}.${number & 255}`;
}

/** Backends of a service that nobody asks. */
export function otherBackends(number: number, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `10.${128 + i}.${number >> 8}.${number & 255}:8080`);
}

/** kube-proxy's chains are named by a hash of 16 characters. */
const hash = (text: string) => text.replaceAll(/[^0-9]/g, "").padStart(16, "0").slice(-16);
const sep = (number: number, backend: string) => `KUBE-SEP-${hash(`${number}${backend}`)}`;
const svc = (number: number) => `KUBE-SVC-${hash(`${number}`)}`;
const comment = (number: number, what: string) =>
  `-m comment --comment "default/service-${number}:http ${what}"`;

function portal({ number }: KubeService): string {
  return `-A KUBE-SERVICES -d ${addressOf(number)}/32 -p tcp ${comment(number, "cluster IP")} ` +
    `-m tcp --dport 80 -j ${svc(number)}`;
}

function serviceChains({ number, backends }: KubeService): { chains: string[]; rules: string[] } {
  const chains = [svc(number), ...backends.map((b) => sep(number, b))];
  const rules = [
    `-A ${svc(number)} ! -s 198.18.0.0/15 -d ${addressOf(number)}/32 -p tcp ${
      comment(number, "cluster IP")
    } ` +
    `-m tcp --dport 80 -j KUBE-MARK-MASQ`,
  ];
  backends.forEach((backend, i) => {
    const left = backends.length - i;
    const chance = left > 1 ? `-m statistic --mode random --probability ${(1 / left).toFixed(10)} ` : "";
    rules.push(`-A ${svc(number)} ${comment(number, `-> ${backend}`)} ${chance}-j ${sep(number, backend)}`);
  });
  for (const backend of backends) {
    const name = sep(number, backend), address = backend.split(":")[0];
    rules.push(
      `-A ${name} -s ${address}/32 ${comment(number, "")} -j KUBE-MARK-MASQ`,
      `-A ${name} -p tcp ${comment(number, "")} -m tcp -j DNAT --to-destination ${backend}`,
    );
  }
  return { chains, rules };
}

/** What a full sync hands to `iptables-restore`. */
export function iptablesAll(services: KubeService[]): string {
  const chains: string[] = [], rules: string[] = [];
  for (const service of services) {
    const own = serviceChains(service);
    for (const chain of own.chains) chains.push(`:${chain} - [0:0]`);
    for (const rule of own.rules) rules.push(rule);
  }
  return [
    "*filter",
    ":KUBE-FORWARD - [0:0]",
    "-A FORWARD -j KUBE-FORWARD",
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
    "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "COMMIT",
    "*nat",
    ...["KUBE-SERVICES", "KUBE-MARK-MASQ", "KUBE-POSTROUTING"].map((c) => `:${c} - [0:0]`),
    ...chains,
    "-A PREROUTING -j KUBE-SERVICES",
    "-A OUTPUT -j KUBE-SERVICES",
    "-A POSTROUTING -j KUBE-POSTROUTING",
    "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
    "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
    "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
    "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    ...services.map(portal),
    ...rules,
    "COMMIT",
    "",
  ].join("\n");
}

/**
 * What a partial sync hands to `iptables-restore --noflush` when the backends of one service changed: the list of all
 * portals is written anew, and of the services' own chains only the changed one's.
 */
export function iptablesChange(services: KubeService[], changed: KubeService, gone: string[]): string {
  const { chains, rules } = serviceChains(changed);
  const lost = gone.map((backend) => sep(changed.number, backend));
  return [
    "*nat",
    ":KUBE-SERVICES - [0:0]",
    ...[...chains, ...lost].map((c) => `:${c} - [0:0]`),
    ...services.map(portal),
    ...rules,
    ...lost.map((chain) => `-X ${chain}`),
    "COMMIT",
    "",
  ].join("\n");
}

const TABLE = "ip kube-proxy";
const endpoint = (number: number, backend: string) => `endpoint-${hash(`${number}${backend}`)}`;

function nftService({ number, backends }: KubeService): string[] {
  const lines: string[] = [];
  for (const backend of backends) {
    const chain = `${TABLE} ${endpoint(number, backend)}`;
    lines.push(
      `add chain ${chain}`,
      `flush chain ${chain}`,
      `add rule ${chain} ip saddr ${backend.split(":")[0]} jump mark-for-masquerade`,
      `add rule ${chain} meta l4proto tcp dnat to ${backend}`,
    );
  }
  const verdicts = backends.map((b, i) => `${i} : goto ${endpoint(number, b)}`).join(", ");
  return [
    ...lines,
    `add chain ${TABLE} service-${number}`,
    `flush chain ${TABLE} service-${number}`,
    `add rule ${TABLE} service-${number} ip daddr ${addressOf(number)} tcp dport 80 ` +
    `ip saddr != 198.18.0.0/15 jump mark-for-masquerade`,
    `add rule ${TABLE} service-${number} numgen random mod ${backends.length} vmap { ${verdicts} }`,
  ];
}

/** What a full sync hands to `nft -f`. */
export function nftablesAll(services: KubeService[]): string {
  return [
    `table ${TABLE} {
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat;
    meta mark & 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random;
  }
  chain filter-forward { type filter hook forward priority -110; ct state new jump service-endpoints-check; }
}`,
    ...services.flatMap(nftService),
    ...services.map((s) =>
      `add element ${TABLE} service-ips { ${addressOf(s.number)} . tcp . 80 : goto service-${s.number} }`
    ),
    "",
  ].join("\n");
}

/** What a partial sync hands to `nft -f` when the backends of one service changed. */
export function nftablesChange(changed: KubeService, gone: string[]): string {
  return [
    ...nftService(changed),
    ...gone.flatMap((backend) => {
      const chain = `${TABLE} ${endpoint(changed.number, backend)}`;
      return [`flush chain ${chain}`, `delete chain ${chain}`];
    }),
    "",
  ].join("\n");
}
