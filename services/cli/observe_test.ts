import assert from "node:assert/strict";
import { Tunnel } from "@weir/proto/flow";
import { GetFlowsResponse } from "@weir/proto/observer";
import { UsageError } from "./context.ts";
import { flowTable, flowText } from "./flow_text.ts";
import { readObserveArgs } from "./observe.ts";

Deno.test("readObserveArgs() makes query parameters of Hubble's flags", () => {
  const args = [
    "-f",
    "--pod",
    "shop/cart",
    "--not",
    "--verdict=FORWARDED",
    "-n",
    "shop",
    "-o",
    "json",
    "--last",
    "5",
  ];
  assert.deepEqual(readObserveArgs(args), {
    query: { "pod": ["shop/cart"], "not-verdict": ["FORWARDED"], "namespace": ["shop"], "last": ["5"] },
    follow: true,
    form: "json",
    printNode: undefined,
  });
  assert.deepEqual(readObserveArgs(["-4", "--not", "-A", "--unencrypted"]).query, {
    "ip-version": ["4"],
    "not-namespace": [""],
    encrypted: ["false"],
  });
  for (
    const bad of [["x"], ["--not"], ["--not", "--not", "--pod", "a"], ["--pod"], ["-o", "xml"], [
      "-f",
      "-o",
      "table",
    ]]
  ) {
    assert.throws(() => readObserveArgs(bad), UsageError, bad.join(" "));
  }
});

Deno.test("flowText() prints what people know from hubble observe, with the policy that decided", () => {
  const answer = GetFlowsResponse.create({
    node_name: "default/node-1",
    flow: {
      time: { seconds: 0, nanos: 5_000_000 },
      verdict: "DROPPED",
      drop_reason_desc: "POLICY_DENIED",
      event_type: { type: 1, sub_type: 133 },
      IP: { source: "10.0.1.5", destination: "fd00::7" },
      l4: { TCP: { source_port: 4000, destination_port: 80 } },
      source: { namespace: "shop", pod_name: "cart", identity: 300 },
      destination: { identity: 2 },
      ingress_denied_by: [{
        name: "db",
        namespace: "shop",
        kind: "CiliumNetworkPolicy",
        path: "spec",
        file: "db.yaml",
        line: 5,
      }],
      Summary: "TCP Flags: SYN",
    },
  });
  assert.match(
    flowText(answer, "compact", { node: true }),
    / \[default\/node-1\]: shop\/cart:4000 \(ID:300\) <> \[fd00::7\]:80 \(world\) Policy denied DROPPED BY default deny of shop\/db \(CiliumNetworkPolicy db\.yaml:5\) \(TCP Flags: SYN\)\n$/,
  );
  answer.flow!.tunnel = Tunnel.create({ protocol: "VXLAN", IP: { source: "192.0.2.66" }, vni: 300 });
  assert.match(
    flowText(answer, "compact", { node: true }),
    / \(TCP Flags: SYN; VXLAN from 192\.0\.2\.66 VNI 300\)\n$/,
  );
  answer.flow!.event_type = { type: 4, sub_type: 0 };
  answer.flow!.trace_observation_point = "TO_ENDPOINT";
  answer.flow!.verdict = "FORWARDED";
  answer.flow!.ingress_denied_by = [];
  answer.flow!.is_reply = { value: true };
  assert.match(
    flowText(answer, "compact", { node: false }),
    /\[fd00::7\]:80 \(world\) <- shop\/cart:4000 \(ID:300\) to-endpoint FORWARDED/,
  );
  assert.match(flowText(answer, "dict", { node: false }), /^ {2}TIMESTAMP: .*\n {5}SOURCE: \[fd00/);
  answer.flow!.destination_service = { namespace: "shop", name: "db" };
  answer.flow!.source_service = { namespace: "shop", name: "front" };
  answer.flow!.is_reply = { value: false };
  assert.match(
    flowText(answer, "compact", { node: false }),
    /: shop\/cart:4000 \(ID:300\) -> shop\/db:80 \(world\)/,
  );
  assert.match(flowTable([answer]), /^TIMESTAMP +SOURCE/);
  assert.deepEqual(GetFlowsResponse.fromJson(JSON.parse(flowText(answer, "json", { node: false }))), answer);
  // nobody serves: no pod and no identity at that end, but a service
  answer.flow!.event_type = { type: 1, sub_type: 158 };
  answer.flow!.verdict = "DROPPED";
  answer.flow!.destination!.identity = 0;
  assert.match(
    flowText(answer, "compact", { node: false }),
    /: shop\/cart:4000 \(ID:300\) -> shop\/db:80 \(service\) Service backend not found DROPPED/,
  );
  answer.flow!.destination_service = undefined;
  assert.match(flowText(answer, "compact", { node: false }), / -> \[fd00::7\]:80 \(unknown\) /);
});
