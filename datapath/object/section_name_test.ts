import { deepEqual, equal } from "node:assert/strict";
import { ATTACH_TYPES, PROGRAM_TYPES } from "./kinds.ts";
import { kindOf, kindOfCustom, kindOfSection } from "./section_name.ts";

Deno.test("kindOfSection() reads section names as libbpf does", () => {
  const cases: readonly (readonly [string, string, string, number, string])[] = [
    ["xdp", "xdp", "xdp", 0, "section"],
    ["xdp.frags", "xdp", "xdp", 32, "section"],
    ["xdp.frags/devmap", "xdp", "xdp_devmap", 32, "section"],
    ["tc", "sched_cls", "", 0, "section"],
    ["?classifier", "sched_cls", "", 0, "section"],
    ["tcx/ingress", "sched_cls", "tcx_ingress", 0, "section"],
    ["cgroup/connect4", "cgroup_sock_addr", "cgroup_inet4_connect", 0, "section"],
    ["cgroup/sendmsg6", "cgroup_sock_addr", "cgroup_udp6_sendmsg", 0, "section"],
    ["sk_lookup", "sk_lookup", "sk_lookup", 0, "section"],
    ["kprobe/sys_write", "kprobe", "", 0, "section"],
    ["fentry.s/do_unlinkat", "tracing", "trace_fentry", 16, "section"],
    ["iter/tcp", "tracing", "trace_iter", 0, "section"],
    ["socket1", "socket_filter", "", 0, "prefix"],
    ["xdp_filter", "xdp", "xdp", 0, "prefix"],
    ["cgroup/skb_extra", "cgroup_skb", "", 0, "prefix"],
  ];
  for (const [section, type, attach, flags, source] of cases) {
    const kind = kindOfSection(section)!;
    deepEqual([
      PROGRAM_TYPES[kind.type],
      kind.attachType === 0 ? "" : ATTACH_TYPES[kind.attachType],
      kind.flags,
      kind.source,
    ], [
      type,
      attach,
      flags,
      source,
    ], section);
  }
  equal(kindOfSection("fentry/do_unlinkat")!.target, "do_unlinkat");
  equal(kindOfSection("2/7"), undefined);
  equal(kindOfSection(".text"), undefined);
});

Deno.test("kindOf() takes the words of the command line", () => {
  equal(PROGRAM_TYPES[kindOf("sched_cls")!.type], "sched_cls");
  equal(kindOf("cgroup/bind6")!.source, "given");
  equal(kindOf("constructor"), undefined);
});

Deno.test("kindOfCustom() guesses only for tc's custom", () => {
  equal(PROGRAM_TYPES[kindOfCustom("2/7", "bpf_lxc.o")!.type], "sched_cls");
  equal(PROGRAM_TYPES[kindOfCustom("from-netdev", "bpf_xdp.o")!.type], "xdp");
  equal(kindOfCustom("anything", "x.o"), undefined);
});
