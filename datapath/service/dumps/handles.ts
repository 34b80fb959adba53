/** Connections that the L7 proxy judges. @module */
import { protocolName } from "@weir/common";
import { REDIRECT_EGRESS, REDIRECT_INGRESS } from "@weir/maps";
import { handleEnds, Handles } from "../kernel/handles.ts";
import type { Kernel } from "../kernel/kernel.ts";
import {
  type Dump,
  type DumpNames,
  endpointText,
  flagsText,
  jiffiesNow,
  type Row,
  secondsUntil,
} from "./dump.ts";

/** `weir bpf handle`. */
export function dumpHandles(kernel: Kernel, names: DumpNames): Dump {
  const handles = new Handles(kernel), now = jiffiesNow(kernel);
  const rows = handles.records().map((record): Row => {
    const { client, server } = handleEnds(record);
    return {
      handle: String(record.number),
      protocol: protocolName(record.key.protocol),
      client: endpointText(client.address, client.port),
      server: endpointText(server.address, server.port),
      rules: flagsText(record.redirect, [[REDIRECT_EGRESS, "egress"], [REDIRECT_INGRESS, "ingress"]]),
      clientEndpoint: names.endpoint(record.client.endpoint),
      serverEndpoint: names.endpoint(record.server.endpoint),
      clientIdentity: String(record.client.identity),
      serverIdentity: String(record.server.identity),
      frontend: record.frontendPortBe === 0 ? "" : endpointText(record.frontend, record.frontendPortBe),
      upstream: record.upstreamPortBe === 0 ? "" : endpointText(record.upstream, record.upstreamPortBe),
      ageS: secondsUntil(now, record.created, names.hz),
    };
  });
  return { rows, entriesMax: handles.entriesMax };
}
