import assert from "node:assert/strict";
import { countCertificate } from "./certificate_times.ts";
import { MetricsRegistry } from "./metrics.ts";

Deno.test("countCertificate() says when a listener's certificate ends, and of a newer one that", () => {
  const metrics = new MetricsRegistry();
  countCertificate(metrics, undefined, "unix");
  assert.match(metrics.render(), /^# TYPE weir_certificate_not_after_seconds gauge$/m);
  assert.doesNotMatch(metrics.render(), /^weir_certificate/m);
  const first = { validFrom: "Nov 28 00:00:00 2026 GMT", validTo: "Dec 28 00:00:00 2026 GMT" };
  countCertificate(metrics, first, "[::]:4244");
  assert.match(
    metrics.render(),
    /^weir_certificate_not_before_seconds\{address="\[::\]:4244"\} 1795824000$/m,
  );
  countCertificate(metrics, { ...first, validTo: "Jan 28 00:00:00 2027 GMT" }, "[::]:4244");
  assert.match(metrics.render(), /^weir_certificate_not_after_seconds\{address="\[::\]:4244"\} 1801094400$/m);
});
