/** Flows that are tracked. @module */
import { protocolName } from "@weir/common";
import {
  CT_CLOSING_FORWARD,
  CT_CLOSING_REVERSE,
  CT_LOOPBACK,
  CT_ORIGIN_HI,
  CT_REDIRECT,
  CT_REPLY_NAT,
  CT_SEEN_REPLY,
  CT_SERVICE,
  CT_TUNNEL,
} from "@weir/maps";
import { unmapped } from "../kernel/addresses.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { type Dump, type DumpNames, isZero, jiffiesNow, secondsUntil } from "./dump.ts";

/** `weir bpf ct`. */
export function dumpConntrack(kernel: Kernel, names: DumpNames): Dump {
  const now = jiffiesNow(kernel);
  const rows = kernel.ct.entries().map(([key, entry]) => {
    const fromHi = (entry.flags & CT_ORIGIN_HI) !== 0;
    const lo = { address: unmapped(key.lo), port: key.portLoBe },
      hi = { address: unmapped(key.hi), port: key.portHiBe };
    const [source, destination] = fromHi ? [hi, lo] : [lo, hi];
    const [opener, answerer] = entry.ends;
    const flags = [
      entry.flags & CT_SEEN_REPLY ? "replied" : "",
      entry.flags & CT_CLOSING_FORWARD ? "closing" : "",
      entry.flags & CT_CLOSING_REVERSE ? "closing-reverse" : "",
      entry.flags & CT_TUNNEL ? "tunnel" : "",
      entry.flags & CT_SERVICE ? "service" : "",
      entry.flags & CT_REPLY_NAT ? "reply-nat" : "",
      entry.flags & CT_LOOPBACK ? "loopback" : "",
      entry.flags & CT_REDIRECT ? "proxy" : "",
    ].filter((flag) => flag !== "").join(",");
    return {
      protocol: protocolName(key.protocol),
      source: source.address,
      sourcePort: String(source.port),
      destination: destination.address,
      destinationPort: String(destination.port),
      sourceEndpoint: names.endpoint(opener.endpoint),
      destinationEndpoint: names.endpoint(answerer.endpoint),
      sourceIdentity: String(opener.identity),
      destinationIdentity: String(answerer.identity),
      flags,
      service: entry.service === 0 ? "" : names.service(entry.service) || String(entry.service),
      translated: isZero(entry.translated) ? "" : `${unmapped(entry.translated)} ${entry.translatedPortBe}`,
      packets: entry.traffic.map(({ packets }) => packets).join("/"),
      bytes: entry.traffic.map(({ bytes }) => bytes).join("/"),
      expiresS: secondsUntil(entry.expires, now, names.hz),
      egressCookie: String(opener.cookie),
      ingressCookie: String(answerer.cookie),
    };
  });
  return { rows, entriesMax: kernel.ct.entriesMax };
}
