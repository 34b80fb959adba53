/** Whom the OTLP endpoint is believed by: certificate authorities of a file, read again as it changes. @module */
import type { Clock } from "@weir/common";

/** The file is looked at so often. */
const LOOK_MS = 60_000;

/** The client of HTTP to use now. @throws {Error} the file cannot be read, or has no certificate */
export type OtlpClient = () => Promise<Deno.HttpClient>;

/** A client that believes the authorities of the file beside those of the system. */
export function authorityClient(path: string, clock: Pick<Clock, "monotonicMs">): OtlpClient {
  let client: Deno.HttpClient | undefined, used = "", lookedMs = -Infinity;
  return async () => {
    const nowMs = clock.monotonicMs();
    if (client !== undefined && nowMs - lookedMs < LOOK_MS) return client;
    const text = await Deno.readTextFile(path);
    lookedMs = nowMs;
    if (client !== undefined && text === used) return client;
    const caCerts = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
    if (caCerts === null) throw new Error(`${path} has no certificate: expected PEM`);
    // Requests that use the one before end by themselves.
    client = Deno.createHttpClient({ caCerts });
    used = text;
    return client;
  };
}
