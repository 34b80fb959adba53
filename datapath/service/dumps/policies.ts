/** Policies: what each slot allows and denies. @module */
import { protocolName } from "@weir/common";
import { u32 } from "@weir/loader";
import {
  POLICY_DIRECTION_AUDIT,
  POLICY_ENTRY_DENY,
  POLICY_ENTRY_NOBODY,
  POLICY_ENTRY_REDIRECT,
  PolicyDestination,
  PolicyEntry,
  PolicyKey,
  SHAPE_ANY_PROTOCOL,
  SHAPE_AUDIT,
  SHAPE_EGRESS,
  SHAPE_LENGTH,
} from "@weir/maps";
import { unmapped } from "../kernel/addresses.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { Dump, DumpNames, Row } from "./dump.ts";

/** `weir bpf policy`. */
export function dumpPolicies(kernel: Kernel, names: DumpNames): Dump {
  const outer = kernel.map("weir_policies");
  const rows: Row[] = [];
  const destinations = new Map(
    kernel.map("weir_policy_destinations").entries().map(([address, value]) => {
      const { number, identity } = PolicyDestination.decode(value);
      return [number, { address: unmapped(address), identity }] as const;
    }),
  );
  const users = new Map<number, string[]>();
  for (const [id, endpoint] of kernel.endpoints.entries()) {
    if (endpoint.policy !== 0) users.set(endpoint.policy, [...users.get(endpoint.policy) ?? [], String(id)]);
  }
  // By batches, which leave the empty slots out: asked one by one they were 16,384 system calls.
  for (const [key] of outer.entries()) {
    const slot = new DataView(key.buffer).getUint32(0, true);
    const inner = outer.lookupInner(u32(slot));
    const header = kernel.policySlots.get(slot);
    if (inner === undefined || header === undefined) continue;
    using map = inner;
    const common = {
      slot: String(slot),
      policy: names.policy(slot),
      endpoints: users.get(slot)?.join(",") ?? "",
    };
    for (const [at, direction] of ["ingress", "egress"].entries()) {
      const { enforce, flags, defaultCookie } = header.directions[at];
      rows.push({
        ...common,
        direction,
        identity: "",
        address: "",
        protocol: "",
        port: "",
        verdict: !enforce
          ? "not enforced"
          : flags & POLICY_DIRECTION_AUDIT
          ? "audit default deny"
          : "default deny",
        precedence: "",
        proxy: "",
        cookie: String(defaultCookie),
      });
    }
    for (const [rawKey, rawValue] of map.entries()) {
      const k = PolicyKey.decode(rawKey), v = PolicyEntry.decode(rawValue);
      const length = k.shape & SHAPE_LENGTH;
      // A repetition of another row, or nobody's: only to say that some destinations have their own.
      if (v.flags & POLICY_ENTRY_NOBODY || v.standsFor !== 0) continue;
      const { address, identity } = destinations.get(k.identity) ?? { address: "", identity: k.identity };
      rows.push({
        ...common,
        direction: k.shape & SHAPE_EGRESS ? "egress" : "ingress",
        identity: identity === 0 ? "any" : String(identity),
        address,
        protocol: k.shape & SHAPE_ANY_PROTOCOL ? "ANY" : protocolName(k.protocol),
        port: length === 0
          ? "any"
          : length === 16
          ? String(k.port)
          : `${k.port}-${k.port + 2 ** (16 - length) - 1}`,
        verdict: (k.shape & SHAPE_AUDIT ? "audit " : "") + (v.flags & POLICY_ENTRY_DENY ? "deny" : "allow"),
        precedence: String(v.precedence),
        proxy: v.flags & POLICY_ENTRY_REDIRECT ? "yes" : "",
        cookie: String(v.cookie),
      });
    }
  }
  return { rows, entriesMax: outer.info.entriesMax };
}
