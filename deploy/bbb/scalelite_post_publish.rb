#!/usr/bin/ruby
# frozen_string_literal: true

# Sends a published recording to the load balancer: by rsync into its spool folder, or by HTTPS.
#
# BigBlueButton runs this for each format that it has published: ... -m <record id> [-f <format>]
# Settings are in scalelite.yml, one folder above; see README.md beside this file.

require 'English'
require 'digest'
require 'fileutils'
require 'json'
require 'net/http'
require 'openssl'
require 'optparse'
require 'uri'
require 'yaml'

module ScaleliteSender
  # Exit statuses.
  SENT = 0
  FAILED = 1
  MISUSED = 2
  REFUSED = 3
  NOT_DELETED = 4

  # Ends the script with a status.
  class Ending < StandardError
    attr_reader :status

    def initialize(status, message)
      super(message)
      @status = status
    end
  end

  # Settings of the script and of BigBlueButton.
  class Settings
    RECORD_ID = /\A[A-Za-z0-9_-]{1,200}\z/.freeze
    OVERRIDES = '/etc/bigbluebutton/recording/recording.yml'
    PROPERTIES = %w[
      /usr/share/bbb-web/WEB-INF/classes/bigbluebutton.properties
      /etc/bigbluebutton/bbb-web.properties
    ].freeze

    def initialize(folder)
      @own = load(File.join(folder, 'scalelite.yml'))
      @bbb = load(File.join(folder, 'bigbluebutton.yml'))
      @bbb = @bbb.merge(load(OVERRIDES)) if File.exist?(OVERRIDES)
      raise Ending.new(MISUSED, 'scalelite.yml: work_dir is missing') unless @own['work_dir']
      return if @own['upload_url'] || @own['spool_dir']

      raise Ending.new(MISUSED, 'scalelite.yml: spool_dir or upload_url is missing')
    end

    def [](name)
      @own[name]
    end

    def number(name, default)
      value = @own.fetch(name, default)
      return value if value.is_a?(Numeric) && value.positive?

      raise Ending.new(MISUSED, "scalelite.yml: #{name} must be a number above 0")
    end

    def published_dir
      bbb('published_dir')
    end

    def status_dir
      File.join(bbb('recording_dir'), 'status', 'published')
    end

    # What the balancer knows this server by: its id or URL there.
    def server
      @own['upload_server'] || property('bigbluebutton.web.serverURL') ||
        raise(Ending.new(MISUSED, 'the URL of this server is not known: set upload_server in scalelite.yml'))
    end

    # The secret that this server and the balancer share.
    def secret
      file = @own['upload_secret_file']
      found = file ? File.read(file).strip : property('securitySalt')
      return found unless found.nil? || found.empty?

      raise Ending.new(MISUSED, "the secret of this server cannot be found in #{file || properties.join(' or ')}")
    rescue SystemCallError => e
      raise Ending.new(MISUSED, "the secret of this server cannot be read: #{e.message}")
    end

    private

    def bbb(name)
      @bbb[name] || raise(Ending.new(MISUSED, "bigbluebutton.yml: #{name} is missing"))
    end

    def properties
      @own['bbb_web_properties'] ? [@own['bbb_web_properties']].flatten : PROPERTIES
    end

    # A later file wins over an earlier one, and so does a later line.
    def property(name)
      lines = properties.select { |path| File.readable?(path) }.flat_map { |path| File.readlines(path) }
      values = lines.map { |line| line[/\A\s*#{Regexp.escape(name)}\s*[=:]\s*(.*?)\s*\z/, 1] }
      values.compact.last
    end

    def load(path)
      found = YAML.safe_load(File.read(path), permitted_classes: [Symbol], aliases: true)
      raise Ending.new(MISUSED, "#{path} holds no settings") unless found.is_a?(Hash)

      found
    rescue SystemCallError, Psych::Exception => e
      raise Ending.new(MISUSED, "#{path} cannot be read: #{e.message}")
    end
  end

  # Part of a file, as a body of a request.
  class Slice
    def initialize(file, offset, length)
      @file = file
      @file.seek(offset)
      @left = length
    end

    def read(length = nil, buffer = nil)
      wanted = [length || @left, @left].min
      data = wanted.zero? ? nil : @file.read(wanted)
      @left -= data.bytesize if data
      return data || (length ? nil : '') unless buffer

      data ? buffer.replace(data) : (buffer.clear && nil)
    end
  end

  # Sends by HTTPS, in pieces, and goes on after a broken connection where it ended (the protocol tus 1.0.0).
  class Uploader
    # To be tried again; `pause` in seconds.
    class Again < StandardError
      attr_reader :pause, :anew

      def initialize(message, pause: nil, anew: false)
        super(message)
        @pause = pause
        @anew = anew
      end
    end

    PATH = '/scalelite/uploads'
    CHUNK_TYPE = 'application/offset+octet-stream'
    LOOPBACK = %w[localhost 127.0.0.1 ::1].freeze
    TOKEN_LIFE = 900
    LAST_PAUSE = 60
    TROUBLE = [
      SystemCallError, IOError, EOFError, SocketError, OpenSSL::SSL::SSLError, Timeout::Error, Net::ProtocolError,
      Net::HTTPBadResponse, Net::HTTPHeaderSyntaxError
    ].freeze

    def initialize(settings, record_id, path)
      @settings = settings
      @record_id = record_id
      @path = path
      @length = File.size(path)
      @sha256 = Digest::SHA256.file(path).hexdigest
      @url = base_url
      @piece = (settings.number('upload_piece', 32) * 1024 * 1024).to_i
      @tries = settings.number('upload_tries', 10)
      @timeout = settings.number('upload_timeout', 60)
      @secret = settings.secret
      @location = nil
      @reached = 0
      @spoiled = 0
    end

    def call
      failures = 0
      loop do
        reached = @reached
        begin
          connected { |http| return if whole?(http) }
        rescue Again, *TROUBLE => e
          failures = @reached > reached ? 1 : failures + 1
          raise Ending.new(FAILED, "the upload failed: #{e.message}") if failures > @tries

          @location = nil if e.is_a?(Again) && e.anew
          pause = (e.pause if e.is_a?(Again)) || [2**(failures - 1), LAST_PAUSE].min
          puts "#{@record_id}: #{e.message}; going on in #{pause} s"
          sleep pause
        end
      end
    ensure
      @http&.finish if @http&.started?
    end

    private

    # Send what is missing. True once all is there.
    def whole?(http)
      offset = @location ? tell(http) : create(http)
      while offset < @length
        @reached = [@reached, offset].max
        offset = append(http, offset)
      end
      true
    end

    def create(http)
      request = Net::HTTP::Post.new(PATH, 'Upload-Length' => @length.to_s)
      request['Content-Type'] = CHUNK_TYPE
      answer = exchange(http, request)
      @location = URI.join(@url, answer['Location']).request_uri
      number(answer)
    end

    def tell(http)
      number(exchange(http, Net::HTTP::Head.new(@location)))
    end

    def append(http, offset)
      length = [@piece, @length - offset].min
      File.open(@path, 'rb') do |file|
        request = Net::HTTP::Patch.new(@location, 'Upload-Offset' => offset.to_s)
        request['Content-Type'] = CHUNK_TYPE
        request.content_length = length
        request.body_stream = Slice.new(file, offset, length)
        number(exchange(http, request))
      end
    end

    def number(answer)
      Integer(answer['Upload-Offset'], 10)
    rescue ArgumentError, TypeError
      raise Again, 'the balancer does not tell how much is there'
    end

    def exchange(http, request)
      request['Tus-Resumable'] = '1.0.0'
      request['Authorization'] = "Bearer #{token}"
      judge(http.request(request))
    end

    def judge(answer)
      code = answer.code.to_i
      return answer if [200, 201, 204].include?(code) && answer['Tus-Resumable']

      why = "#{@url.host} answers #{code}: #{reason(answer)}"
      case code
      when 404, 410, 422
        @spoiled += 1 if code == 422
        # Without a location, it is not the upload that is unknown.
        raise Again.new(why, anew: true) if @location && @spoiled < 2

        raise Ending.new(REFUSED, why)
      when 408, 409, 423, 425, 429, 500..599 then raise Again.new(why, pause: pause_of(answer))
      when 413
        raise Ending.new(REFUSED, "#{why} (see client_max_body_size in the README if this is a proxy's)")
      when 200..299
        raise Ending.new(REFUSED, "#{@url.host} takes no uploads: is SCALELITE_UPLOAD=true set there?")
      else
        raise Ending.new(REFUSED, why)
      end
    end

    def reason(answer)
      JSON.parse(answer.body.to_s).fetch('error')
    rescue JSON::ParserError, KeyError, TypeError, NoMethodError
      answer.message
    end

    def pause_of(answer)
      pause = answer['Retry-After'].to_i
      pause.positive? ? [pause, LAST_PAUSE].min : nil
    end

    # A JSON Web Token (HS256), of use for this content only.
    def token
      now = Time.now.to_i
      claims = {
        aud: 'scalelite-upload', iss: @settings.server, sub: @record_id, length: @length, sha256: @sha256,
        iat: now, exp: now + TOKEN_LIFE
      }
      signed = [{ alg: 'HS256', typ: 'JWT' }, claims].map { |part| base64(JSON.generate(part)) }.join('.')
      "#{signed}.#{base64(OpenSSL::HMAC.digest('SHA256', @secret, signed))}"
    end

    def base64(data)
      [data].pack('m0').tr('+/', '-_').delete('=')
    end

    def base_url
      url = URI.parse(@settings['upload_url'].to_s)
      return url if url.is_a?(URI::HTTPS) || (url.is_a?(URI::HTTP) && LOOPBACK.include?(url.hostname))

      raise Ending.new(MISUSED, 'scalelite.yml: upload_url must begin with https://')
    rescue URI::InvalidURIError
      raise Ending.new(MISUSED, 'scalelite.yml: upload_url is no URL')
    end

    def connected
      http = Net::HTTP.new(@url.hostname, @url.port)
      http.use_ssl = @url.is_a?(URI::HTTPS)
      http.ca_file = @settings['upload_ca_file'] if @settings['upload_ca_file']
      http.open_timeout = http.write_timeout = @timeout
      # With the last piece, a long tar may have to be read once more over there.
      http.read_timeout = 10 * @timeout
      http.max_retries = 0
      http.start { yield http }
    end
  end

  # One recording: packed, sent, noted, and deleted if that is wanted.
  class Recording
    def initialize(settings, record_id)
      @settings = settings
      @record_id = record_id
      @work_dir = settings['work_dir']
      @tar = File.join(@work_dir, "#{record_id}.tar")
    end

    def send_away
      FileUtils.mkdir_p(@work_dir)
      alone do
        formats = published_formats
        if formats.empty?
          puts "#{@record_id}: no format is published, there is nothing to send"
          return SENT
        end
        pack(formats)
        transfer
        note
        puts "#{@record_id}: sent #{formats.map { |path| File.dirname(path) }.join(', ')}"
      ensure
        FileUtils.rm_f([@tar, unfinished])
      end
      delete if @settings['delete_recording']
      SENT
    end

    private

    # Formats are published one after another, and each runs this script.
    def alone
      path = File.join(@work_dir, ".#{@record_id}.lock")
      loop do
        File.open(path, File::RDWR | File::CREAT, 0o660) do |lock|
          lock.flock(File::LOCK_EX)
          # Its last holder may have removed it between our opening and locking it.
          next unless File.exist?(path) && File.identical?(lock, path)

          begin
            return yield
          ensure
            FileUtils.rm_f(path)
          end
        end
      end
    end

    # All that are published by now, each as <format>/<record id>.
    def published_formats
      root = @settings.published_dir
      Dir.glob("*/#{@record_id}", base: root).select { |path| File.directory?(File.join(root, path)) }.sort
    end

    def unfinished
      File.join(@work_dir, ".#{@record_id}.tar.new")
    end

    def pack(formats)
      run('tar', '--create', '--sort=name', '--file', unfinished, '--directory', @settings.published_dir, *formats)
      File.chmod(0o664, unfinished)
      File.rename(unfinished, @tar)
    end

    def transfer
      return Uploader.new(@settings, @record_id, @tar).call if @settings['upload_url']

      options = [@settings['extra_rsync_opts'] || []].flatten.map(&:to_s)
      run('rsync', '--verbose', '--remove-source-files', '--protect-args', *options, @tar, @settings['spool_dir'])
    end

    def note
      folder = @settings.status_dir
      FileUtils.mkdir_p(folder)
      hidden = File.join(folder, ".#{@record_id}-sender.new")
      File.write(hidden, "Published #{@record_id}\n")
      File.rename(hidden, File.join(folder, "#{@record_id}-sender.done"))
    end

    def delete
      run('bbb-record', '--delete', @record_id)
    rescue Ending => e
      raise Ending.new(NOT_DELETED, "the recording was sent, and stays here: #{e.message}")
    end

    def run(*command)
      return if system(*command)

      how = $CHILD_STATUS.nil? || $CHILD_STATUS.exitstatus == 127 ? 'cannot be run' : "failed (#{$CHILD_STATUS})"
      raise Ending.new(FAILED, "#{command.first} #{how}")
    end
  end

  def self.record_id(arguments)
    found = nil
    parser = OptionParser.new do |options|
      options.banner = "Usage: #{File.basename($PROGRAM_NAME)} -m RECORD_ID [-f FORMAT]"
      options.on('-m', '--meeting-id RECORD_ID', 'the recording (its internal meeting id)') { |id| found = id }
      options.on('-f', '--format FORMAT', 'of no effect: all published formats are sent') { |_| nil }
    end
    parser.parse(arguments)
    return found if found&.match?(Settings::RECORD_ID)

    raise Ending.new(MISUSED, "-m must name a recording\n#{parser.banner}")
  rescue OptionParser::ParseError => e
    raise Ending.new(MISUSED, e.message)
  end

  def self.main(arguments)
    $stdout.sync = true
    id = record_id(arguments)
    Recording.new(Settings.new(File.expand_path('..', __dir__)), id).send_away
  rescue Ending => e
    warn [id, e.message].compact.join(': ')
    e.status
  rescue SystemCallError => e
    warn [id, e.message].compact.join(': ')
    FAILED
  end
end

exit ScaleliteSender.main(ARGV) if $PROGRAM_NAME == __FILE__
