// The agent's pages in a real browser: three agents share 20,000 targets, one is killed, and the pages are looked at on a
// phone and on a desk. Exit code 1 if something is not as a person would want it.
//
//     node pages.mjs ALLOY [FOLDER FOR SCREENSHOTS]
//
// playwright-core and axe-core are found from the folder in which it is run; the browser is CHROMIUM or /usr/bin/chromium.

import { spawn } from "node:child_process";
import { mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const axe = require.resolve("axe-core/axe.min.js");

const [program, shots] = process.argv.slice(2);
const TARGETS = 20_000;
const SIZES = { phone: { width: 390, height: 844 }, desk: { width: 1440, height: 900 } };
const PAGES = ["/", "/ownership", "/components", "/component/prometheus.scrape.many", "/debug/loki.echo.lines", "/logs"];

const began = Date.now();
const say = (text) => console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s  ${text}`);
const failures = [];
function expect(what, holds, more = "") {
  if (holds) return;
  failures.push(what);
  say(`FAILED: ${what} ${more}`);
}

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

const folder = mkdtempSync(join(tmpdir(), "alloy-ui-"));
const agents = [];

async function startAgents() {
  const dead = await freePort();
  const groups = Array.from({ length: TARGETS }, (_, index) => ({
    targets: [`127.0.0.1:${dead}`],
    labels: { __metrics_path__: `/node-${index}`, node: `node-${index}` },
  }));
  writeFileSync(join(folder, "targets.json"), JSON.stringify(groups));
  const ports = [await freePort(), await freePort(), await freePort()];
  const lines = await freePort();
  writeFileSync(join(folder, "config.alloy"), `
livedebugging {
  enabled = sys.env("LIVE") == "yes"
}
loki.source.api "lines" {
  http {
    listen_address = sys.env("LINES")
    listen_port    = ${lines}
  }
  forward_to = [loki.echo.lines.receiver]
}
loki.echo "lines" { }
discovery.file "many" {
  files = ["${folder}/targets.json"]
}
prometheus.scrape "many" {
  targets         = discovery.file.many.targets
  forward_to      = [prometheus.remote_write.store.receiver]
  scrape_interval = "1m"
  clustering {
    enabled = true
  }
}
prometheus.remote_write "store" {
  endpoint {
    url = "http://127.0.0.1:${dead}/write"
    basic_auth {
      username = "me"
      password = "never-shown"
    }
  }
}
`);
  for (const [index, port] of ports.entries()) {
    const name = ["anna", "bert", "carl"][index];
    const child = spawn(program, [
      "run", join(folder, "config.alloy"), `--storage.path=${join(folder, name)}`,
      `--server.http.listen-addr=127.0.0.1:${port}`, "--cluster.enabled=true", `--cluster.node-name=${name}`,
      `--cluster.join-addresses=${ports.map((other) => `127.0.0.1:${other}`).join(",")}`,
    // Only one shows what passes.
    ], { stdio: ["ignore", "ignore", "ignore"], env: { ...process.env, LIVE: index === 0 ? "yes" : "no", LINES: `127.0.0.${index + 2}` } });
    agents.push({ name, child, url: `http://127.0.0.1:${port}`, lines: `http://127.0.0.${index + 2}:${lines}` });
  }
  for (const { url, name } of agents) {
    const deadline = Date.now() + 60_000;
    for (;;) {
      const members = await fetch(`${url}/api/v0/cluster/members`).then((answer) => answer.json()).catch(() => null);
      if (members?.members.filter((member) => member.phase === "active").length === 3) break;
      if (Date.now() > deadline) throw new Error(`${name} does not see three active members`);
      await new Promise((done) => setTimeout(done, 200));
    }
  }
}

async function accessible(page, what) {
  // The page's own policy forbids scripts from elsewhere, and this one is: it is run beside the page's.
  await page.evaluate(readFileSync(axe, "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  for (const { id, impact, help, nodes } of violations) {
    expect(`${what} is accessible`, !["serious", "critical"].includes(impact), `${id}: ${help}: ${nodes[0]?.html}`);
  }
}

async function look(browser, size, name) {
  const page = await browser.newPage({ viewport: SIZES[size] });
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  for (const colors of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: colors });
    for (const path of PAGES) {
      await page.goto(agents[0].url + path, { waitUntil: "load" });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      expect(`${path} fits on a ${size}`, wide <= 0, `(${wide} px too wide)`);
      expect(`${path} has no secret`, !(await page.content()).includes("never-shown"));
      await accessible(page, `${path} (${size}, ${colors})`);
      if (shots) {
        mkdirSync(shots, { recursive: true });
        await page.screenshot({ path: join(shots, `${size}-${colors}-${name}${path.replaceAll("/", "_")}.png`), fullPage: path !== "/ownership" });
      }
    }
  }
  expect(`no errors in the browser (${size})`, errors.length === 0, errors.join("; "));
  await page.close();
}

async function scroll(browser) {
  const page = await browser.newPage({ viewport: SIZES.desk });
  const from = Date.now();
  await page.goto(`${agents[0].url}/ownership`);
  const rows = () => page.locator("tbody tr").count();
  say(`the first of ${TARGETS} rows after ${Date.now() - from} ms`);
  const wanted = 1500;
  const deadline = Date.now() + 30_000;
  while ((await rows()) < wanted && Date.now() < deadline) {
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    await page.waitForTimeout(50);
  }
  expect("more rows come when the end is in sight", (await rows()) >= wanted, `(${await rows()})`);
  say(`${await rows()} rows after ${Date.now() - from} ms`);
  await page.fill("input[type=search]", "node-19999");
  await page.click("button");
  await page.waitForLoadState();
  expect("the search finds one", (await rows()) === 1, `(${await rows()})`);
  await page.click("tbody a");
  await page.waitForSelector("text=Who follows");
  expect("the page says why", (await page.textContent("main")).includes("is the first in rank of the 3 active members"));
  await page.close();
}

async function push(agent, lines) {
  const values = lines.map((line, index) => [String(BigInt(Date.now()) * 1_000_000n + BigInt(index)), line]);
  const body = JSON.stringify({ streams: [{ stream: { app: "shop" }, values }] });
  const answer = await fetch(`${agent.lines}/loki/api/v1/push`, { method: "POST", headers: { "content-type": "application/json" }, body });
  if (!answer.ok) throw new Error(`a push is answered with ${answer.status}`);
}

async function tail(browser) {
  const page = await browser.newPage({ viewport: SIZES.desk });
  await page.goto(`${agents[1].url}/debug/loki.echo.lines`);
  expect("who does not allow it says how to", (await page.textContent("main")).includes("livedebugging { enabled = true }"));
  await page.goto(`${agents[0].url}/component/loki.echo.lines`);
  await page.click("text=What comes in, live");
  await page.waitForSelector("text=0 came in");
  const rows = () => page.locator("#items li:visible").count();
  const wait = (what, count) => page.waitForFunction((wanted) => [...document.querySelectorAll("#items li")].filter((row) => !row.hidden).length === wanted, count, { timeout: 15_000 })
    .catch(async () => expect(what, false, `(${await rows()} rows: ${await page.textContent("#seen")})`));
  const from = Date.now();
  await push(agents[0], ["GET /cart 200", "<img src=x onerror=alert(1)>"]);
  await wait("two lines come", 2);
  say(`the page showed a line ${Date.now() - from} ms after it was pushed`);
  expect("lines are text", (await page.locator("#items img").count()) === 0);
  expect("the newest is the first", (await page.locator("#items li").first().textContent()).includes("<img"));
  await page.fill("input[name=part]", "cart");
  await wait("one contains it", 1);
  await page.fill("input[name=part]", "");
  await page.click("button[name=pause]");
  await push(agents[0], ["while it pauses"]);
  await page.waitForSelector("text=3 came in, paused");
  await wait("a pause shows nothing more", 2);
  await page.click("button[name=pause]");
  await push(agents[0], Array.from({ length: 3000 }, (_, index) => `line ${index}`));
  await page.waitForFunction(() => document.querySelector("#seen").textContent.includes("too fast to be shown"), null, { timeout: 15_000 })
    .catch(() => expect("what is too fast is counted", false));
  const seen = await page.textContent("#seen");
  const [came, left] = seen.match(/\d+/g).map(Number);
  expect("nothing is missing in the counts", came + left === 3003, seen);
  expect("not more rows than can be read", (await rows()) <= 500, String(await rows()));
  await page.click("button[name=clear]");
  await wait("it is cleared", 0);
  await page.selectOption("select[name=share]", "0.001");
  await page.waitForSelector("text=0 came in");
  const opened = page.waitForResponse((answer) => answer.url().endsWith("sampleProb=1"));
  await page.selectOption("select[name=share]", "1");
  await opened;
  await push(agents[0], Array.from({ length: 40 }, (_, index) => `level=info msg="order taken" order=${index} items=3 note="${"a longer text ".repeat(index % 9)}"`));
  await wait("forty come", 40);
  await page.waitForSelector("text=40 came in");
  for (const size of Object.keys(SIZES)) {
    await page.setViewportSize(SIZES[size]);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await accessible(page, `a tail (${size}, ${colorScheme})`);
      if (shots) await page.screenshot({ path: join(shots, `${size}-${colorScheme}-tail.png`) });
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    expect(`a tail fits on a ${size}`, wide <= 0, `(${wide} px too wide)`);
  }
  await page.close();
}

async function death(browser) {
  const page = await browser.newPage({ viewport: SIZES.desk });
  await page.goto(agents[0].url);
  await page.evaluate(() => { globalThis.isSamePage = true; });
  const keys = async (name) => Number(await page.locator("tbody tr", { hasText: name }).first().locator("td.number a").textContent());
  expect("bert has a third", Math.abs((await keys("bert")) - TARGETS / 3) < 500, String(await keys("bert")));
  const from = Date.now();
  process.kill(agents[1].child.pid, "SIGKILL");
  await page.waitForFunction(() => document.querySelector("main").textContent.includes("a member is down"), null, { timeout: 15_000 })
    .catch(() => expect("the page shows the death", false));
  say(`the page showed a death ${Date.now() - from} ms after it`);
  await page.waitForFunction(() => document.querySelector(".tiles b").textContent === "2 of 2", null, { timeout: 15_000 })
    .catch(() => expect("two members are left", false));
  expect("anna has a half", Math.abs((await keys("anna")) - TARGETS / 2) < 500, String(await keys("anna")));
  expect("without being loaded anew", await page.evaluate(() => globalThis.isSamePage === true));
  await page.close();
}

let browser;
try {
  await startAgents();
  say(`three agents share ${TARGETS} targets`);
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  for (const size of Object.keys(SIZES)) await look(browser, size, "three");
  say("all pages were looked at, light and dark, on a phone and on a desk");
  await scroll(browser);
  await tail(browser);
  say("lines were seen as they came");
  await death(browser);
} catch (error) {
  failures.push(String(error));
  console.error(error);
} finally {
  await browser?.close();
  for (const { child } of agents) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
console.log(failures.length === 0 ? "OK: the pages show what is there, and change with it." : `${failures.length} failures`);
process.exit(failures.length === 0 ? 0 : 1);
