import assert from "node:assert/strict";
import type { DatapathEvent } from "./event.ts";
import { buildFlow, type Names } from "./flow_builder.ts";
import { SeenFlow, SeenNames } from "./seen_flow.ts";
import { Rule } from "@weir/proto/policy";

const hex = (text: string) => Uint8Array.from(text.replace(/\s/g, "").match(/../g)!, (b) => parseInt(b, 16));
const packetOf = (source: string, destination: string) =>
  hex(
    `020000000002 020000000001 0800 4500 0034 0000 4000 4006 0000 ${source} ${destination} ` +
      "a8a4 0050 00000001 00000000 5002 7210 0000 0000",
  );

/** Names that differ with `when`, and count how often they are asked. */
class ChangingNames implements Names {
  readonly nodeName = "n";
  readonly cluster = "c";
  asked = 0;
  when = "then";
  address(ip: string) {
    this.asked++;
    return ip.endsWith(".9")
      ? undefined
      : { identity: 300, namespace: "ns", podName: `${this.when} ${ip}`, labels: [] };
  }
  identityLabels(identity: number) {
    this.asked++;
    return [`${this.when} ${identity}`];
  }
  rule(cookie: number) {
    this.asked++;
    const sources = [{
      policyName: `${this.when} ${cookie}`,
      kind: "CiliumNetworkPolicy",
      policy: `${cookie}`,
    }];
    return cookie === 0 ? undefined : Rule.create({ cookie, sources });
  }
  endpointAddresses(id: number) {
    this.asked++;
    return this.when === "then" ? [id === 7 ? "10.0.1.5" : "10.0.2.7"] : [];
  }
  endpoint(id: number) {
    this.asked++;
    return { identity: 300, namespace: "ns", podName: `${this.when} ${id}`, labels: [] };
  }
  interfaceName(index: number) {
    this.asked++;
    return `${this.when} ${index}`;
  }
  service(id: number) {
    this.asked++;
    return id === 1 ? { namespace: "ns", name: `${this.when} ${id}` } : undefined;
  }
  serviceAt(address: string, port: number, protocol: string) {
    this.asked++;
    return { namespace: "ns", name: `${this.when} ${address} ${port} ${protocol}` };
  }
}

Deno.test("SeenFlow is the flow that buildFlow() would have made when it was seen, whenever it is asked for", () => {
  const verdict = { kind: "policy-verdict" as const, verdict: 0, matchType: 1, audited: false };
  for (
    const [source, destination] of [["0a000105", "0a000207"], ["0a000105", "0a000109"], [
      "0a000105",
      "0a000105",
    ]]
  ) {
    for (const service of [0, 1, 2]) {
      for (const destinationIdentity of [0, 300, 400]) {
        const base = {
          timeNs: 1,
          sourceIdentity: 300,
          destinationIdentity,
          ifindex: 4,
          service,
          packet: packetOf(source, destination),
          layer: 2 as const,
        };
        const events: DatapathEvent[] = [
          { ...base, ...verdict, endpointId: 7, direction: "EGRESS", cookie: 11 },
          { ...base, ...verdict, endpointId: 8, direction: "INGRESS", cookie: 12 },
          { ...base, kind: "trace", endpointId: 8, point: 0, reason: 2 },
        ];
        const names = new ChangingNames();
        const expected = events.map((event) => buildFlow(event, names, { bootUnixS: 0, uuid: "" }));
        const seenNames = new SeenNames(events, names);
        const seen = events.map((event) => new SeenFlow(event, seenNames, 0));
        names.when = "now";
        names.asked = 0;
        assert.deepEqual(seen.map(({ flow }) => ({ ...flow, uuid: "" })), expected);
        assert.equal(names.asked, 0);
        assert.equal(seen[0].flow, seen[0].flow);
      }
    }
  }
});
