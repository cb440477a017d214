// bigbluebutton-js: builds the URLs (spaces as %20), fetches them with axios, reads XML with fast-xml-parser.
'use strict'

const { api, http } = require('bigbluebutton-js')
const { MODERATOR_PW, walk } = require('./walk.js')

walk((host, secret) => {
  const { administration, monitoring } = api(host, secret)
  return {
    create: async (id, name) => (await http(administration.create(name, id, { moderatorPW: MODERATOR_PW }))).meetingID,
    joinUrl: (id) => administration.join('Ann', id, MODERATOR_PW),
    running: async (id) => (await http(monitoring.isMeetingRunning(id))).running,
    info: async (id) => {
      const info = await http(monitoring.getMeetingInfo(id))
      return { name: info.meetingName, participants: info.participantCount }
    },
    meetings: async () => (await http(monitoring.getMeetings())).meetings.map((meeting) => meeting.meetingID),
    end: (id) => http(administration.end(id, MODERATOR_PW)),
    refusal: async (id) => (await http(monitoring.getMeetingInfo(id))).messageKey,
  }
})
