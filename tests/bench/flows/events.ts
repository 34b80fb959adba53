/** Records of the datapath's ring as a busy node makes them, and the names that go with them. @module */
import type { KnownAddress, Names } from "@weir/flow-exporter";

const PODS = 200;
const LABELS = (n: number) => [
  `k8s:app=app-${n % 40}`,
  `k8s:tier=web`,
  `k8s:version=v${n % 3}`,
  `k8s:io.kubernetes.pod.namespace=shop`,
  `k8s:io.cilium.k8s.policy.cluster=default`,
  `k8s:io.cilium.k8s.policy.serviceaccount=default`,
  `k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop`,
];

/** A batch of `count` records: three quarters traces, a quarter verdicts of new connections, each a TCP packet over IPv4. */
export function eventRecords(count: number): Uint8Array {
  const headerBytes = 64, packetBytes = 54, size = (4 + headerBytes + packetBytes + 7) & ~7;
  const bytes = new Uint8Array(count * size), view = new DataView(bytes.buffer);
  for (let n = 0; n < count; n++) {
    const at = n * size + 4, from = n % PODS, to = (n * 7 + 1) % PODS;
    view.setUint32(n * size, headerBytes + packetBytes, true);
    bytes.set([n % 4 === 0 ? 5 : 4, 0], at);
    view.setUint16(at + 2, from + 1, true);
    view.setUint16(at + 4, to + 1, true);
    view.setUint16(at + 6, packetBytes, true);
    view.setBigUint64(at + 8, 5_000_000_000n + BigInt(n) * 1000n, true);
    view.setUint32(at + 16, 1000 + from, true);
    view.setUint32(at + 20, 1000 + to, true);
    bytes[at + 36] = n % 4 === 0 ? 8 : 0;
    const packet = at + headerBytes;
    bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45], packet);
    bytes.set([6, 0, 0, 10, 0, 1, from, 10, 0, 2, to], packet + 23);
    view.setUint16(packet + 34, 30_000 + n % 20_000);
    view.setUint16(packet + 36, 8080);
    bytes.set([0x50, 0x18], packet + 46);
  }
  return bytes;
}

/** Names of all pods. */
export function podNames(): Names {
  const known: KnownAddress[] = Array.from({ length: PODS }, (_, n) => ({
    identity: 1000 + n,
    namespace: "shop",
    podName: `app-${n % 40}-${n}`,
    labels: LABELS(n),
  }));
  const byAddress = new Map(known.flatMap((one, n) => [[`10.0.1.${n}`, one], [`10.0.2.${n}`, one]]));
  return {
    nodeName: "node-1",
    cluster: "default",
    address: (ip) => byAddress.get(ip),
    identityLabels: (identity) => known[identity - 1000]?.labels,
    rule: () => undefined,
    endpointAddresses: (id) => [`10.0.1.${id - 1}`],
    endpoint: (id) => known[id - 1],
    interfaceName: () => "lxc1",
    service: () => undefined,
    serviceAt: () => undefined,
  };
}
