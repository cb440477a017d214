// bbb-promise: asks with the old `request` library and reads XML with xml2js, every element a list.
'use strict'

const { server } = require('bbb-promise')
const { MODERATOR_PW, walk } = require('./walk.js')

walk((host, secret) => {
  const { administration, monitoring } = server(host, secret)
  return {
    create: async (id, name) =>
      (await administration.create(name, id, { moderatorPW: MODERATOR_PW })).response.meetingID[0],
    joinUrl: (id) => administration.join('Ann', id, MODERATOR_PW),
    running: async (id) => (await monitoring.isMeetingRunning(id)).response.running[0] === 'true',
    info: async (id) => {
      const info = (await monitoring.getMeetingInfo(id)).response
      return { name: info.meetingName[0], participants: Number(info.participantCount[0]) }
    },
    meetings: async () =>
      (await monitoring.getMeetings()).response.meetings[0].meeting.map((meeting) => meeting.meetingID[0]),
    end: (id) => administration.end(id, MODERATOR_PW),
    refusal: async (id) => (await monitoring.getMeetingInfo(id)).response.messageKey[0],
  }
})
