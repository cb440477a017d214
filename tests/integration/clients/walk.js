// The course of walk.py for Node's libraries: `node CLIENT.js API SECRET NAME ID ID` prints the same JSON.
'use strict'

const MODERATOR_PW = "moderator pw"

async function openLink(url) {
  const page = await fetch(url, { signal: AbortSignal.timeout(20000) })
  await page.text()
  return page.url
}

async function observe(client, id, name) {
  const seen = { created: await client.create(id, name), running: [await client.running(id)] }
  seen.page = await openLink(client.joinUrl(id))
  seen.running.push(await client.running(id))
  Object.assign(seen, await client.info(id))
  return seen
}

async function walk(make) {
  const [api, secret, name, ...ids] = process.argv.slice(2)
  // These libraries add "/api" themselves.
  const client = make(api.replace(/\/api$/, ''), secret)
  const course = []
  for (const id of ids) {
    course.push(await observe(client, id, name))
  }
  const listed = await client.meetings()
  for (const [i, id] of ids.entries()) {
    course[i].listed = listed.filter((other) => other === id).length
    await client.end(id)
    course[i].after = await client.refusal(id)
  }
  process.stdout.write(JSON.stringify(course))
}

module.exports = { MODERATOR_PW, walk }
