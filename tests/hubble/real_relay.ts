/** The real Hubble Relay on a node of a lab, and the real `hubble` command against it. @module */
import assert from "node:assert/strict";
import { run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { HUBBLE, RELAY } from "./real_client.ts";

const PORT = 4555;

/**
 * Makes an authority of nobody's in particular, and one certificate for servers and clients with DNS names alone: as people have them
 * who run Hubble Relay. The files have the names that `--hubble-tls-directory` wants.
 */
export async function makeCertificates(directory: string, names: readonly string[]): Promise<void> {
  const openssl = async (...args: string[]) => {
    const { code, err } = await run("openssl", args);
    assert.equal(code, 0, `openssl ${args.join(" ")}: ${err}`);
  };
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const at = (name: string) => `${directory}/${name}`;
  await Deno.writeTextFile(at("names"), `subjectAltName=${names.map((name) => `DNS:${name}`).join()}\n`);
  await openssl(
    "req",
    "-x509",
    ...key,
    "-keyout",
    at("ca.key"),
    "-out",
    at("ca.crt"),
    "-subj",
    "/CN=somebody",
  );
  await openssl("req", ...key, "-keyout", at("node.key"), "-out", at("node.csr"), "-subj", "/CN=nodes");
  await openssl(
    ...[
      "x509",
      "-req",
      "-in",
      at("node.csr"),
      "-CA",
      at("ca.crt"),
      "-CAkey",
      at("ca.key"),
      "-CAcreateserial",
    ],
    ...["-extfile", at("names"), "-out", at("node.crt")],
  );
  // The services of a node are another user.
  await Deno.chmod(directory, 0o755);
  for (const name of ["ca.crt", "node.crt", "node.key"]) await Deno.chmod(at(name), 0o644);
}

/** Hubble Relay, running. */
export class RealRelay implements AsyncDisposable {
  said = "";
  readonly #network: string;
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<unknown>;

  /**
   * @param node name of the network namespace of the node that it runs on
   * @param socket the node's `hubble.sock`: it hears of the others there
   * @param tlsDirectory as of {@link makeCertificates}
   */
  constructor({ node, socket, tlsDirectory }: { node: string; socket: string; tlsDirectory: string }) {
    this.#network = `--net=/run/netns/${node}`;
    const child = this.#child = new Deno.Command("nsenter", {
      args: [
        ...[this.#network, RELAY, "serve", "--peer-service", `unix://${socket}`],
        ...["--listen-address", `127.0.0.1:${PORT}`, "--health-listen-address", "127.0.0.1:0"],
        "--disable-server-tls",
        ...["--retry-timeout", "2s", "--sort-buffer-drain-timeout", "1s"],
        ...["--tls-hubble-client-cert-file", `${tlsDirectory}/node.crt`],
        ...["--tls-hubble-client-key-file", `${tlsDirectory}/node.key`],
        ...["--tls-hubble-server-ca-files", `${tlsDirectory}/ca.crt`],
      ],
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#reading = (async () => {
      for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) this.said += text;
    })();
  }

  /** `hubble ...` against it, whatever comes of it. */
  async ask(...args: string[]): Promise<string> {
    const words = [...args, "--server", `127.0.0.1:${PORT}`, "--config", "/dev/null"];
    const { out, err } = await run("nsenter", [this.#network, HUBBLE, ...words]);
    return out + err;
  }

  /** Asks until the answer is as it will be. */
  async until(args: readonly string[], what: RegExp): Promise<string> {
    let answer = "";
    await until(
      () => `hubble ${args.join(" ")} says ${what}:\n${answer}\n${this.said.slice(-4000)}`,
      async () => {
        answer = await this.ask(...args);
        return what.test(answer);
      },
    );
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // It may hang when it is told to end (reference/hubble-facts.md section 4).
    this.#child.kill("SIGKILL");
    await this.#child.status;
    await this.#reading;
  }
}
