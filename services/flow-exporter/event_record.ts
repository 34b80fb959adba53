/**
 * The records of the datapath's ring, as `datapath/bpf/lib/abi.h` (struct event) lays them out, little endian:
 *
 *      0  type  1 subtype  2 source_endpoint  4 destination_endpoint  6 length_captured
 *      8  time (ns)
 *     16  source_identity  20 destination_identity
 *     24  ifindex          28 length_original
 *     32  line  34 file  35 reason  36 flags  37 egress_match  38 ingress_match  39 protocol
 *     40  egress_cookie    44 ingress_cookie
 *     48  policy_port  50 proxy_port  52 hook_endpoint  54 service  56 holder  58 pad2  60 vni
 *     64  payload; 176 with flag TUNNEL: underlay address that it came from; 160 of TRAFFIC: packets, bytes, forward and reverse
 *
 * One record tells one decision; Hubble knows several events for it, so a record becomes up to three.
 * @module
 */
import { IpAddress } from "@weir/common";
import { DROP, EVENT, EVENT_FLAG, REASON, TRACE, TROUBLE } from "@weir/proto/numbers";
import { eventFileName, eventTypeName } from "@weir/proto/words";
import type { DatapathEvent } from "./event.ts";

const HEADER_BYTES = 64, OUTER_AT = 176, TRAFFIC_AT = 160;
/** Longest record that is believed. */
export const RECORD_BYTES_MAX = 4096;
/** Drops that a policy decided: by default, by a deny rule. */
const POLICY_DROPS: ReadonlySet<number> = new Set([DROP.POLICY, DROP.POLICY_DENY]);
/** Drops of what asks for a service: no backend, a ClusterIP asked from outside, a source that may not. */
const SERVICE_DROPS: ReadonlySet<number> = new Set([
  DROP.NO_SERVICE,
  DROP.IS_CLUSTER_IP,
  DROP.NOT_IN_SRC_RANGE,
]);

/** The records of a batch: each a u32 length, that many bytes, padding to 8. A broken tail is counted, not read. */
export function splitRecords(bytes: Uint8Array): { records: Uint8Array[]; broken: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + 4 > bytes.length) return { records, broken: 1 };
    const length = view.getUint32(at, true);
    if (length === 0 || length > RECORD_BYTES_MAX || at + 4 + length > bytes.length) {
      return { records, broken: 1 };
    }
    records.push(bytes.subarray(at + 4, at + 4 + length));
    at += (4 + length + 7) & ~7;
  }
  return { records, broken: 0 };
}

/** Underlay address of who sent the packet through the tunnel; IPv4 lies there mapped. */
function outerSource(record: Uint8Array): string {
  const bytes = record.subarray(OUTER_AT, OUTER_AT + 16);
  const mapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255;
  return IpAddress.fromBytes(mapped ? bytes.subarray(12) : bytes).text;
}

/** The events of one record; undefined for a record that is too short or of an unknown type. */
export function readRecord(record: Uint8Array): DatapathEvent[] | undefined {
  if (record.length < HEADER_BYTES) return undefined;
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  const type = record[0], subtype = record[1], flags = record[36];
  const sourceEndpoint = view.getUint16(2, true), destinationEndpoint = view.getUint16(4, true);
  const captured = Math.min(view.getUint16(6, true), record.length - HEADER_BYTES);
  const base = {
    timeNs: view.getUint32(8, true) + view.getUint32(12, true) * 2 ** 32,
    sourceIdentity: view.getUint32(16, true),
    destinationIdentity: view.getUint32(20, true),
    ifindex: view.getUint32(24, true),
    service: view.getUint16(54, true),
    packet: record.subarray(HEADER_BYTES, HEADER_BYTES + captured),
    layer: (flags & EVENT_FLAG.L3) !== 0 ? 3 as const : 2 as const,
    ...((flags & EVENT_FLAG.TUNNEL) !== 0 && record.length >= OUTER_AT + 16
      ? { tunnel: { source: outerSource(record), vni: view.getUint32(60, true) } }
      : {}),
  };
  const hook = view.getUint16(52, true);
  const proxyPort = view.getUint16(50, true);
  const verdicts = (denied: number): DatapathEvent[] => {
    const asked: DatapathEvent[] = [];
    // Ingress is asked only where egress allowed, so of two the last one is the one that denied.
    const ingress = (flags & EVENT_FLAG.INGRESS_VERDICT) !== 0;
    if ((flags & EVENT_FLAG.EGRESS_VERDICT) !== 0) {
      asked.push({
        ...base,
        kind: "policy-verdict",
        endpointId: sourceEndpoint,
        verdict: !ingress && denied > 0 ? -denied : ingress ? 0 : proxyPort,
        direction: "EGRESS",
        matchType: record[37],
        cookie: view.getUint32(40, true),
        audited: (flags & EVENT_FLAG.EGRESS_AUDITED) !== 0,
      });
    }
    if (ingress) {
      asked.push({
        ...base,
        kind: "policy-verdict",
        endpointId: destinationEndpoint,
        verdict: denied > 0 ? -denied : proxyPort,
        direction: "INGRESS",
        matchType: record[38],
        cookie: view.getUint32(44, true),
        audited: (flags & EVENT_FLAG.INGRESS_AUDITED) !== 0,
      });
    }
    return asked;
  };
  // A delivery is told from the receiving endpoint's side, everything else from the one whose hook it was.
  const reporter = subtype === TRACE.TO_LXC ? destinationEndpoint : hook || sourceEndpoint;
  switch (type) {
    case EVENT.DROP: {
      const ingressSide = (flags & EVENT_FLAG.INGRESS_VERDICT) !== 0 ||
        ((flags & EVENT_FLAG.EGRESS_VERDICT) === 0 && (flags & EVENT_FLAG.INGRESS) !== 0);
      return [
        ...(POLICY_DROPS.has(subtype) ? verdicts(subtype) : []),
        {
          ...base,
          kind: "drop",
          endpointId: ingressSide ? destinationEndpoint : sourceEndpoint,
          reason: subtype,
          direction: ingressSide ? "INGRESS" : "EGRESS",
          reply: replyOfDrop(subtype, record[35], flags),
          file: eventFileName(record[34]),
          line: view.getUint16(32, true),
          cookie: POLICY_DROPS.has(subtype) ? view.getUint32(ingressSide ? 44 : 40, true) : 0,
        },
      ];
    }
    case EVENT.POLICY_VERDICT:
      return [...verdicts(0), {
        ...base,
        kind: "trace",
        endpointId: reporter,
        point: subtype,
        reason: record[35],
      }];
    case EVENT.TRACE:
      return [{ ...base, kind: "trace", endpointId: reporter, point: subtype, reason: record[35] }];
    case EVENT.TRAFFIC: {
      if (record.length < TRAFFIC_AT + 32) return undefined;
      const count = (index: number) => Number(view.getBigUint64(TRAFFIC_AT + 8 * index, true));
      return [{
        ...base,
        kind: "traffic",
        endpointId: hook,
        packets: count(0),
        bytes: count(1),
        replyPackets: count(2),
        replyBytes: count(3),
        over: subtype === 1,
        atSource: sourceEndpoint !== 0,
      }];
    }
    case EVENT.TROUBLE: {
      // Nobody's packet: it was found by looking, and its headers were made.
      const waits = subtype === TROUBLE.NO_ANSWER || subtype === TROUBLE.UNCONFIRMED;
      return [{
        ...base,
        kind: "trouble",
        endpointId: hook || sourceEndpoint || destinationEndpoint,
        trouble: subtype,
        waitedMs: waits ? view.getUint32(28, true) : 0,
        tries: subtype === TROUBLE.NO_ANSWER || subtype === TROUBLE.RETRANSMITTED
          ? view.getUint16(32, true)
          : 0,
        mtu: subtype === TROUBLE.RETRANSMITTED ? proxyPort : 0,
        byEndpoint: !waits && subtype !== TROUBLE.RETRANSMITTED && hook !== 0 &&
          (flags & EVENT_FLAG.INGRESS) === 0,
      }];
    }
  }
  return undefined;
}

/** Conntrack's word where it was asked. Policy and services are asked about who begins. */
function replyOfDrop(drop: number, reason: number, flags: number): boolean | undefined {
  if (reason !== REASON.NEW) return reason < REASON.RELATED ? reason === REASON.REPLY : undefined;
  const asked = (flags & (EVENT_FLAG.EGRESS_VERDICT | EVENT_FLAG.INGRESS_VERDICT)) !== 0;
  return asked || SERVICE_DROPS.has(drop) ? false : undefined;
}

/** A record as readable columns, for `weir monitor`; undefined for one that is too short. */
export function recordFields(record: Uint8Array): Record<string, string> | undefined {
  if (record.length < HEADER_BYTES) return undefined;
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  return {
    "type": eventTypeName(record[0]),
    "subtype": `${record[1]}`,
    "time-ns": `${view.getBigUint64(8, true)}`,
    "source": `${view.getUint32(16, true)}`,
    "destination": `${view.getUint32(20, true)}`,
    "source-endpoint": `${view.getUint16(2, true)}`,
    "destination-endpoint": `${view.getUint16(4, true)}`,
    "hook-endpoint": `${view.getUint16(52, true)}`,
    "ifindex": `${view.getUint32(24, true)}`,
    "length": `${view.getUint32(28, true)}`,
    "at": `${eventFileName(record[34])}:${view.getUint16(32, true)}`,
    "reason": `${record[35]}`,
    "flags": `0x${record[36].toString(16)}`,
    "protocol": `${record[39]}`,
    "port": `${view.getUint16(48, true)}`,
    "service": `${view.getUint16(54, true)}`,
    ...((record[36] & EVENT_FLAG.TUNNEL) !== 0 && record.length >= OUTER_AT + 16
      ? { "tunnel-from": outerSource(record), "vni": `${view.getUint32(60, true)}` }
      : {}),
    "egress-cookie": `${view.getUint32(40, true)}`,
    "ingress-cookie": `${view.getUint32(44, true)}`,
  };
}
