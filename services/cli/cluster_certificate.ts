/**
 * `weir cluster certificate NAME`: files with which a person on another machine sees the flows of the cluster.
 *
 * @module
 */
import { createCertificateRequest } from "@weir/common/certificate-request";
import { OBSERVER_NAME, RELAY_PORT } from "@weir/common/membership";
import { IssueRequest, IssueResponse } from "@weir/proto/certificate";
import { parse, seconds, text } from "./args.ts";
import { clientOf } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";

const HINT = "weir help cluster";

/** Runs the command. */
export async function certificateCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { out: { type: "string" }, expires: { type: "string" } }, HINT);
  const [name, ...more] = parsed.positionals;
  if (name === undefined || more.length > 0) {
    throw new UsageError("Say whose certificate it is to be: weir cluster certificate NAME", HINT);
  }
  const lifetimeS = seconds(text(parsed, "expires"), HINT), out = text(parsed, "out") ?? name;
  if (!/^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$/.test(name)) {
    throw new UsageError(`The name is "${name}": expected up to 100 letters, digits, dots and dashes`, HINT);
  }
  // Before anything is issued: a certificate without its key is of no use.
  try {
    Deno.mkdirSync(out, { mode: 0o700 });
  } catch (cause) {
    const why = cause instanceof Deno.errors.AlreadyExists ? "it is there already" : (cause as Error).message;
    throw new Error(`Cannot make the directory ${out}: ${why}\n  Say another one with --out DIR`, { cause });
  }
  const client = clientOf(context, "certificate-authority");
  try {
    const { keyPem, requestPem } = await createCertificateRequest(name);
    const answer = await client.call("/v1/certificates:issue", {
      request: { message: IssueRequest, value: { requestPem, node: name, role: "viewer", lifetimeS } },
      response: IssueResponse,
    });
    Deno.writeTextFileSync(`${out}/client.key`, keyPem, { mode: 0o600, createNew: true });
    Deno.writeTextFileSync(`${out}/client.crt`, answer.certificatePem, { createNew: true });
    Deno.writeTextFileSync(`${out}/ca.crt`, answer.authorityPem, { createNew: true });
    const [address = "ADDRESS"] = answer.addresses.map((one) => one.slice(0, one.lastIndexOf(":")));
    context.io.out(
      `${out} has client.crt, client.key and ca.crt for ${name}. With them, where the relay listens beyond this machine (--hubble-relay-listen):
  hubble observe --server tls://${address}:${RELAY_PORT} --tls-server-name ${OBSERVER_NAME} --tls-ca-cert-files ${out}/ca.crt --tls-client-cert-file ${out}/client.crt --tls-client-key-file ${out}/client.key
weir cluster token list shows it, weir cluster token revoke ID ends it
`,
    );
    return 0;
  } catch (error) {
    Deno.removeSync(out, { recursive: true });
    throw error;
  } finally {
    client.close();
  }
}
