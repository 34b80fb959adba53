/** What a sysdump says of kernels, networks, logs and configuration: programs and files of this machine, each with a deadline. @module */

/** A file of the archive and the program that writes it. */
export interface MachineFact {
  readonly file: string;
  readonly words: readonly string[];
}

/** A file of the archive, and what finds out what is in it. */
export interface Fact {
  readonly file: string;
  /** @param msMax how long it may take @throws {Error} it cannot be had */
  gather(msMax: number): Promise<string>;
}

/** Longest output that is kept; of more the beginning. */
export const OUTPUT_BYTES_MAX = 4 << 20;

const SYSCTLS = [
  ...[
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_mtu_probing",
    "net/ipv4/conf/all/rp_filter",
  ],
  ...["net/ipv4/conf/default/rp_filter", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/all/disable_ipv6"],
  ...[
    "net/core/bpf_jit_enable",
    "net/core/bpf_jit_harden",
    "net/core/netdev_max_backlog",
    "net/core/somaxconn",
  ],
  ...[
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/netfilter/nf_conntrack_max",
    "kernel/unprivileged_bpf_disabled",
  ],
  ...["kernel/perf_event_paranoid", "kernel/random/boot_id", "fs/file-max", "vm/max_map_count"],
].map((name) => `/proc/sys/${name}`);

const COUNTERS = ["dev", "snmp", "snmp6", "netstat", "sockstat", "softnet_stat"].map((name) =>
  `/proc/net/${name}`
);
/** The kernel's own words on what it was built with, as far as it matters here. */
const CONFIG = `(zcat /proc/config.gz 2>/dev/null || cat "/boot/config-$(uname -r)") |
  grep -E '^CONFIG_[A-Z0-9_]*(BPF|NETFILTER|NF_|XT_|VXLAN|VETH|CGROUP|NET_CLS|NET_SCH|XDP|WIREGUARD|XFRM|INET_ESP|DEBUG_INFO)'`;

/** Of the machine, whatever its nodes are. */
export function machineFacts(): MachineFact[] {
  return [
    { file: "machine/uname.txt", words: ["uname", "-a"] },
    { file: "machine/release.txt", words: ["cat", "/etc/os-release"] },
    { file: "machine/memory.txt", words: ["cat", "/proc/meminfo", "/proc/loadavg", "/proc/uptime"] },
    {
      file: "machine/limits.txt",
      words: ["sh", "-c", "ulimit -a; cat /proc/self/cgroup /proc/self/mountinfo"],
    },
    { file: "machine/kernel-config.txt", words: ["sh", "-c", CONFIG] },
    {
      file: "machine/processes.txt",
      // Weir's own images have no ps.
      words: [
        "sh",
        "-c",
        "ps -eo pid,ppid,user,stat,nlwp,rss,etimes,time,wchan,comm 2>/dev/null || cat /proc/[0-9]*/stat 2>/dev/null",
      ],
    },
    { file: "machine/kernel-log.txt", words: ["sh", "-c", "dmesg 2>/dev/null | tail -n 500"] },
    { file: "machine/configuration.txt", words: ["sh", "-c", "cat /etc/weir/weir.yaml 2>/dev/null || true"] },
  ];
}

/** Of one node. @param enter words that run a program in its network */
export function nodeFacts(node: string, enter: readonly string[]): MachineFact[] {
  const of = (name: string, ...words: string[]): MachineFact => ({
    file: `nodes/${node}/network/${name}.txt`,
    words: [...enter, ...words],
  });
  return [
    of("devices", "ip", "-d", "-s", "link"),
    of("addresses", "ip", "address"),
    of("routes", "ip", "route", "show", "table", "all"),
    of("routes6", "ip", "-6", "route", "show", "table", "all"),
    of("rules", "sh", "-c", "ip rule; ip -6 rule"),
    of("neighbours", "ip", "neigh"),
    of("qdiscs", "tc", "-s", "qdisc"),
    of("sockets", "ss", "-s"),
    of("counters", "tail", "-n", "+1", ...COUNTERS),
    of("sysctls", "grep", "-s", "", ...SYSCTLS),
    of("firewall", "sh", "-c", "nft list ruleset 2>/dev/null || { iptables-save; ip6tables-save; }"),
  ];
}

/** The agent's words of a lab's node. */
export function labLog(node: string, file: string): MachineFact {
  return { file: `nodes/${node}/agent.log`, words: ["tail", "-c", `${OUTPUT_BYTES_MAX}`, file] };
}

/** The agent's words of a host, where systemd runs it. */
export function hostLog(node: string): MachineFact {
  const script = "journalctl -u weir -n 5000 --no-pager -o cat 2>/dev/null || true";
  return { file: `nodes/${node}/agent.log`, words: ["sh", "-c", script] };
}

/** What it says is asked of this machine. */
export function asFact(fact: MachineFact): Fact {
  return { file: fact.file, gather: (msMax) => gatherFact(fact, msMax) };
}

/** Runs the program. @throws {Error} it is not there, or does not end in time */
async function gatherFact({ words: [program, ...args] }: MachineFact, msMax: number): Promise<string> {
  const signal = AbortSignal.timeout(msMax);
  const child = new Deno.Command(program, { args, stdin: "null", stdout: "piped", stderr: "piped" }).spawn();
  // What does not end has nothing left to say.
  signal.addEventListener("abort", () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
  });
  const [out, error] = await Promise.all([textOf(child.stdout), textOf(child.stderr)]);
  const { code } = await child.status;
  if (signal.aborted) throw new Error(`${program} does not end within ${msMax / 1000} s`);
  return code === 0 ? out : `${out}${error}exit code ${code}\n`;
}

async function textOf(stream: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    if (text.length < OUTPUT_BYTES_MAX) text += chunk;
  }
  return text.length <= OUTPUT_BYTES_MAX ? text : `${text.slice(0, OUTPUT_BYTES_MAX)}\n(cut off here)\n`;
}
