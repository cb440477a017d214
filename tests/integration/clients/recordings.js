// What each Node library makes of recordings, as recordings.py does: `node recordings.js LIBRARY API SECRET MEETING RECORD`.
'use strict'

const [library, api, secret, meeting, record] = process.argv.slice(2)
// These libraries add "/api" themselves.
const address = api.replace(/\/api$/, '')

function client() {
  if (library === 'bigbluebutton-js') {
    const bbb = require('bigbluebutton-js')
    const { recording } = bbb.api(address, secret)
    return {
      get: async (meetingID) => bbb.http(recording.getRecordings({ meetingID })),
      update: async (id, params) => bbb.http(recording.updateRecordings(id, params)),
      publish: async (id, published) => bbb.http(recording.publishRecordings(id, published)),
      remove: async (id) => bbb.http(recording.deleteRecordings(id))
    }
  }
  const { recording } = require('bbb-promise').server(address, secret)
  const answer = async (call) => (await call).response
  return {
    get: (meetingID) => answer(recording.getRecordings({ meetingID })),
    update: (id, params) => answer(recording.updateRecordings(id, params)),
    publish: (id, published) => answer(recording.publishRecordings(id, published)),
    remove: (id) => answer(recording.deleteRecordings(id))
  }
}

const text = (value) => Array.isArray(value) ? text(value[0]) : value
const truth = (value) => String(text(value)) === 'true'

function shown(answer) {
  let list = answer.recordings
  list = Array.isArray(list) ? list : [list]
  list = list.flatMap((one) => one && one.recording ? one.recording : one)
  return list.filter((one) => one && one.recordID).map((one) => ({
    id: text(one.recordID),
    name: text(one.name),
    state: text(one.state),
    color: text(text(one.metadata).color),
    url: text(text(text(one.playback).format).url)
  }))
}

async function main() {
  const bbb = client()
  const seen = { first: shown(await bbb.get(meeting)) }
  seen.recolored = truth((await bbb.update(record, { meta_color: 'green and blue' })).updated)
  seen.unpublished = truth((await bbb.publish(record, false)).published)
  seen.second = shown(await bbb.get(meeting))
  seen.published = truth((await bbb.publish(record, true)).published)
  seen.deleted = truth((await bbb.remove(record)).deleted)
  seen.last = shown(await bbb.get(meeting))
  process.stdout.write(JSON.stringify(seen))
}

main().catch((error) => { console.error(error); process.exit(1) })
