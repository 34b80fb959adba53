/**
 * Says to Prometheus from when until when the certificate holds that a listener shows, so that one that nobody renews is seen
 * before it ends. Whoever renews does so half way or at two thirds: what is older than that was not renewed.
 * @module
 */
import type { X509Certificate } from "node:crypto";
import type { MetricsRegistry } from "./metrics.ts";

/** Sets both gauges for a listener; again when it has taken another certificate. Without one it has no series. */
export function countCertificate(
  metrics: MetricsRegistry,
  certificate: Pick<X509Certificate, "validFrom" | "validTo"> | undefined,
  address: string,
): void {
  const set = (end: string, text: string, at: string | undefined) => {
    const help = `${text} the certificate of a listener holds, Unix time`;
    const gauge = metrics.gauge(`weir_certificate_not_${end}_seconds`, help);
    if (at !== undefined) gauge.set(Date.parse(at) / 1000, { address });
  };
  set("before", "From when", certificate?.validFrom);
  set("after", "Until when", certificate?.validTo);
}
